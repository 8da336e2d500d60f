/* The layers of a GPT with 8-bit matrices: any number of positions of any rows, in one call.
 *
 * One parallel region for all layers; its threads go from phase to phase by themselves (team.h),
 * where a tensor library would start and end some hundreds of regions. A row's numbers do not
 * depend on the rows beside it, nor on how many threads there are. `native_linear.py` and
 * `native_decoder.py` call this; `native_library.py` mirrors the structs.
 */
#include <stdint.h>
#include <string.h>

#include "attention.h"
#include "products.h"
#include "rows.h"
#include "team.h"

/* Products are cut into so many tasks for each thread, that the last one is not waited for long. */
#define TASKS_PER_THREAD 4
#define PHASES_PER_LAYER 9

typedef struct {
    const float *attn_norm[2], *mlp_norm[2]; /* weight and bias, [dim] */
    Matrix qkv, out, up, down;
} Layer;

typedef struct {
    const Layer *layers;
    int32_t num_layers, dim, num_heads;
} Model;

typedef struct {
    void *kept; /* [layers, 2, places, heads, capacity, head_dim] */
    int32_t num_places, capacity, is_half;
} Cache;

/* The positions to compute, [num_rows]: where each row's cache lies, and its index in it. */
typedef struct {
    int32_t num_rows, num_threads;
    const int32_t *places, *positions;
    float *hidden; /* [num_rows, dim], in and out */
    float *wide;   /* [num_rows, 4 * dim], scratch */
    uint8_t *steps; /* [num_rows, 4 * dim], scratch */
    float *largest; /* [num_rows], scratch */
    Phase *phases;  /* [PHASES_PER_LAYER * num_layers], scratch */
} Batch;

/* One product for the whole batch; `finish` takes 16 outputs of one row. */
typedef struct Step Step;
typedef void (*Finish)(const Step *step, int row, int output, __m512 values);

struct Step {
    const Model *model;
    const Cache *cache;
    const Batch *batch;
    int layer;
    const Matrix *matrix; /* of the product under way */
    Finish finish;
    int pairs_per_task;
    const float *input;          /* [num_rows, num_in], to be rounded */
    const float *const *norm;    /* weight and bias, where the input is normalised first */
    float *result;               /* of a product that stands alone */
};

static long kept_at(const Step *step, int is_value, int row, int head)
{
    const Cache *cache = step->cache;
    int heads = step->model->num_heads, width = step->model->dim / heads;
    long place = (2L * step->layer + is_value) * cache->num_places + step->batch->places[row];
    return (place * heads + head) * cache->capacity * width;
}

static void keep_qkv(const Step *step, int row, int output, __m512 values)
{
    const Model *model = step->model;
    int dim = model->dim, width = dim / model->num_heads;
    int which = output / dim, at = output % dim;
    if (which == 0) {
        _mm512_storeu_ps(step->batch->wide + (long)row * 4 * dim + at, values);
        return;
    }
    long start = kept_at(step, which - 1, row, at / width);
    long index = start + (long)step->batch->positions[row] * width + at % width;
    store_kept(step->cache->kept, index, step->cache->is_half, values);
}

static void add_to_hidden(const Step *step, int row, int output, __m512 values)
{
    float *hidden = step->batch->hidden + (long)row * step->model->dim + output;
    _mm512_storeu_ps(hidden, _mm512_add_ps(_mm512_loadu_ps(hidden), values));
}

static void keep_gelu(const Step *step, int row, int output, __m512 values)
{
    float *wide = step->batch->wide + (long)row * 4 * step->model->dim + output;
    _mm512_storeu_ps(wide, gelu_of(values));
}

static void keep_result(const Step *step, int row, int output, __m512 values)
{
    _mm512_storeu_ps(step->result + (long)row * step->matrix->num_out + output, values);
}

static void round_row(const void *context, int row)
{
    const Step *step = context;
    const Matrix *matrix = step->matrix;
    int num_in = matrix->num_in;
    const float *input = step->input + (long)row * num_in;
    float normed[step->norm ? num_in : 1];
    if (step->norm) {
        normalise(input, step->norm[0], step->norm[1], num_in, normed);
        input = normed;
    }
    step->batch->largest[row] =
        round_to_steps(input, num_in, matrix->shift, matrix->middle, matrix->num_steps,
                       step->batch->steps + (long)row * num_in);
}

static void multiply(const void *context, int task)
{
    const Step *step = context;
    const Matrix *matrix = step->matrix;
    const Batch *batch = step->batch;
    int first = task * step->pairs_per_task, end = first + step->pairs_per_task;
    if (end > matrix->num_out / PAIR)
        end = matrix->num_out / PAIR;
    __m512i sums[MOST_ROWS][2];
    for (int pair = first; pair < end; pair++)
        for (int row = 0; row < batch->num_rows; row += MOST_ROWS) {
            int rows = batch->num_rows - row < MOST_ROWS ? batch->num_rows - row : MOST_ROWS;
            sum_pair(matrix, pair, batch->steps + (long)row * matrix->num_in, rows, sums);
            for (int r = 0; r < rows; r++)
                for (int t = 0; t < 2; t++) {
                    int output = pair * PAIR + t * TILE;
                    float largest = batch->largest[row + r];
                    step->finish(step, row + r, output,
                                 value_of(matrix, output, sums[r][t], largest));
                }
        }
}

static void attend_task(const void *context, int task)
{
    const Step *step = context;
    const Batch *batch = step->batch;
    int heads = step->model->num_heads, dim = step->model->dim, width = dim / heads;
    int row = task / heads, head = task % heads;
    int num_positions = batch->positions[row] + 1;
    int bytes = step->cache->is_half ? 2 : 4;
    const char *kept = step->cache->kept;
    float scores[num_positions + 16];
    float *query = batch->wide + (long)row * 4 * dim + head * width;
    /* queries lie in the first quarter of a wide row; what they attended to goes into the second */
    attend(query, kept + kept_at(step, 0, row, head) * bytes,
           kept + kept_at(step, 1, row, head) * bytes, num_positions, width / 16,
           step->cache->is_half, scores, query + dim);
}

/* The attention's output is not contiguous over rows: it is rounded from where it lies. */
static void round_mixed(const void *context, int row)
{
    const Step *step = context;
    int dim = step->model->dim;
    const Matrix *matrix = step->matrix;
    step->batch->largest[row] =
        round_to_steps(step->batch->wide + (long)row * 4 * dim + dim, dim, matrix->shift,
                       matrix->middle, matrix->num_steps, step->batch->steps + (long)row * dim);
}

/* Rounds the input's rows and multiplies them: two phases. */
static Phase *product(Step *step, Phase *phase, const Matrix *matrix, Task round, Finish finish)
{
    int pairs = matrix->num_out / PAIR;
    int per_task = pairs / (step->batch->num_threads * TASKS_PER_THREAD);
    step->matrix = matrix;
    step->finish = finish;
    step->pairs_per_task = per_task > 0 ? per_task : 1;
    run_phase(phase++, round, step, step->batch->num_rows);
    run_phase(phase++, multiply, step, (pairs + step->pairs_per_task - 1) / step->pairs_per_task);
    return phase;
}

static void run_layers(void *context)
{
    Step step = *(const Step *)context;
    const Batch *batch = step.batch;
    Phase *phase = batch->phases;
    for (; step.layer < step.model->num_layers; step.layer++) {
        const Layer *layer = step.model->layers + step.layer;
        step.input = batch->hidden;
        step.norm = layer->attn_norm;
        phase = product(&step, phase, &layer->qkv, round_row, keep_qkv);
        run_phase(phase++, attend_task, &step, batch->num_rows * step.model->num_heads);
        phase = product(&step, phase, &layer->out, round_mixed, add_to_hidden);
        step.norm = layer->mlp_norm;
        phase = product(&step, phase, &layer->up, round_row, keep_gelu);
        step.input = batch->wide;
        step.norm = 0;
        phase = product(&step, phase, &layer->down, round_row, add_to_hidden);
    }
}

static void run_product(void *context)
{
    Step step = *(const Step *)context;
    product(&step, step.batch->phases, step.matrix, round_row, keep_result);
}

/* Moves `batch->hidden` through all layers; keys and values of its positions go into the cache. */
void move_through_layers(const Model *model, const Cache *cache, const Batch *batch, RunParallel run)
{
    Step step = {.model = model, .cache = cache, .batch = batch};
    memset(batch->phases, 0, sizeof(Phase) * PHASES_PER_LAYER * model->num_layers);
    run(run_layers, &step, batch->num_threads, 0);
}

/* result [num_rows, num_out] = rows [num_rows, num_in] times one matrix, plus its bias. */
void multiply_rows(const Matrix *matrix, const Batch *batch, const float *rows, float *result,
                   RunParallel run)
{
    Step step = {.batch = batch, .matrix = matrix, .input = rows, .result = result};
    memset(batch->phases, 0, sizeof(Phase) * 2);
    run(run_product, &step, batch->num_threads, 0);
}
