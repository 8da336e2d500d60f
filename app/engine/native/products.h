/* Products of rows in 8-bit steps with matrices of 8-bit whole numbers.
 *
 * A matrix lies in pairs of tiles; a tile is 16 outputs, [num_in / 4][16][4], so that one
 * instruction (VNNI's vpdpbusd) multiplies four inputs of 16 outputs. Sums are whole numbers in 32
 * bits, hence exact in any order.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include <immintrin.h>
#include <stdint.h>

#define TILE 16
#define PAIR 32
#define MOST_ROWS 8 /* at a time: 16 sums, and the processor has 32 vectors */

typedef struct {
    const int8_t *packed;   /* [num_out / 16][num_in / 4][16][4] */
    const float *scales;    /* [num_out], for each step of the largest activation */
    const int32_t *offsets; /* [num_out], what the activations' middle adds to each sum */
    const float *bias;      /* [num_out] */
    float shift;            /* added to activations before they are rounded */
    int32_t middle, num_steps, num_in, num_out;
} Matrix;

static inline __m512i multiply_add(__m512i sum, __m512i steps, __m512i weights)
{
    return _mm512_dpbusd_epi32(sum, steps, weights);
}

static inline __m512i four_steps(const uint8_t *steps)
{
    int32_t four;
    __builtin_memcpy(&four, steps, 4);
    return _mm512_set1_epi32(four);
}

/* Sums of one pair of tiles for `rows` rows; inlined with each number of rows as a constant. */
static inline __attribute__((always_inline)) void sum_rows(
    const int8_t *first, const int8_t *second, int num_in, const uint8_t *steps, int rows,
    __m512i sums[][2])
{
    __m512i even[MOST_ROWS][2], odd[MOST_ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < 2; t++)
            even[r][t] = odd[r][t] = _mm512_setzero_si512();
    for (int i = 0; i < num_in; i += 8) {
        __m512i a = _mm512_loadu_si512(first + i * TILE), b = _mm512_loadu_si512(second + i * TILE);
        __m512i c = _mm512_loadu_si512(first + (i + 4) * TILE);
        __m512i d = _mm512_loadu_si512(second + (i + 4) * TILE);
        /* half a page ahead, and thereby across its end, where the hardware stops */
        _mm_prefetch((const char *)(first + i * TILE) + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)(second + i * TILE) + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)(first + i * TILE) + 2048 + 64, _MM_HINT_T0);
        _mm_prefetch((const char *)(second + i * TILE) + 2048 + 64, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512i x = four_steps(steps + (long)r * num_in + i);
            __m512i y = four_steps(steps + (long)r * num_in + i + 4);
            even[r][0] = multiply_add(even[r][0], x, a);
            even[r][1] = multiply_add(even[r][1], x, b);
            if (rows <= 4) {
                odd[r][0] = multiply_add(odd[r][0], y, c);
                odd[r][1] = multiply_add(odd[r][1], y, d);
            } else {
                even[r][0] = multiply_add(even[r][0], y, c);
                even[r][1] = multiply_add(even[r][1], y, d);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < 2; t++)
            sums[r][t] = rows <= 4 ? _mm512_add_epi32(even[r][t], odd[r][t]) : even[r][t];
}

static inline void sum_pair(const Matrix *matrix, int pair, const uint8_t *steps, int rows,
                            __m512i sums[][2])
{
    int num_in = matrix->num_in;
    const int8_t *first = matrix->packed + (long)pair * PAIR * num_in;
    const int8_t *second = first + (long)TILE * num_in;
    switch (rows) {
    case 1: sum_rows(first, second, num_in, steps, 1, sums); break;
    case 2: sum_rows(first, second, num_in, steps, 2, sums); break;
    case 3: sum_rows(first, second, num_in, steps, 3, sums); break;
    case 4: sum_rows(first, second, num_in, steps, 4, sums); break;
    case 5: sum_rows(first, second, num_in, steps, 5, sums); break;
    case 6: sum_rows(first, second, num_in, steps, 6, sums); break;
    case 7: sum_rows(first, second, num_in, steps, 7, sums); break;
    default: sum_rows(first, second, num_in, steps, 8, sums); break;
    }
}

/* 16 sums as the numbers they stand for, for a row whose largest number is `largest`. */
static inline __m512 value_of(const Matrix *matrix, int output, __m512i sums, float largest)
{
    __m512i whole = _mm512_sub_epi32(sums, _mm512_loadu_si512(matrix->offsets + output));
    __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_loadu_ps(matrix->scales + output));
    return _mm512_fmadd_ps(scaled, _mm512_set1_ps(largest), _mm512_loadu_ps(matrix->bias + output));
}

#endif
