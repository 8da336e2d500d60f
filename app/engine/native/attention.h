/* Attention of one head of one row over its own keys and values, kept as float32 or bfloat16.
 *
 * Computed in float32 whatever they are kept in.
 */
#ifndef ATTENTION_H
#define ATTENTION_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#include "rows.h"

#define MOST_VECTORS 8 /* of 16 numbers in a head: 128 wide at most */

static inline __m512 load_kept(const void *kept, long index, int is_half)
{
    if (!is_half)
        return _mm512_loadu_ps((const float *)kept + index);
    __m256i half = _mm256_loadu_si256((const __m256i *)((const uint16_t *)kept + index));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline void store_kept(void *kept, long index, int is_half, __m512 x)
{
    if (!is_half) {
        _mm512_storeu_ps((float *)kept + index, x);
        return;
    }
    /* to the nearest, ties to even; a NaN may not round up into an infinity */
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 broken = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    up = _mm512_mask_set1_epi32(up, broken, 0x7fc00000);
    _mm256_storeu_si256((__m256i *)((uint16_t *)kept + index),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}

/* Inlined with the width and the kind of numbers as constants. */
static inline __attribute__((always_inline)) void attend_head(
    const float *query, const void *keys, const void *values, int num_positions, int vectors,
    int is_half, float *scores, float *mixed)
{
    int width = 16 * vectors;
    __m512 part[MOST_VECTORS], most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf((float)width));
    for (int v = 0; v < vectors; v++)
        part[v] = _mm512_mul_ps(_mm512_loadu_ps(query + 16 * v), scale);
    for (int p = 0; p < num_positions; p++) {
        __m512 sum = _mm512_mul_ps(part[0], load_kept(keys, (long)p * width, is_half));
        for (int v = 1; v < vectors; v++)
            sum = _mm512_fmadd_ps(part[v], load_kept(keys, (long)p * width + 16 * v, is_half), sum);
        scores[p] = _mm512_reduce_add_ps(sum);
    }
    int padded = (num_positions + 15) & ~15;
    for (int p = num_positions; p < padded; p++)
        scores[p] = -INFINITY;
    for (int p = 0; p < padded; p += 16)
        most = _mm512_max_ps(most, _mm512_loadu_ps(scores + p));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int p = 0; p < padded; p += 16) {
        __m512 share = exp_of(_mm512_sub_ps(_mm512_loadu_ps(scores + p), most));
        total = _mm512_add_ps(total, share);
        _mm512_storeu_ps(scores + p, share);
    }
    for (int v = 0; v < vectors; v++)
        part[v] = _mm512_setzero_ps();
    for (int p = 0; p < num_positions; p++) {
        __m512 share = _mm512_set1_ps(scores[p]);
        for (int v = 0; v < vectors; v++)
            part[v] = _mm512_fmadd_ps(share, load_kept(values, (long)p * width + 16 * v, is_half),
                                      part[v]);
    }
    __m512 factor = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total));
    for (int v = 0; v < vectors; v++)
        _mm512_storeu_ps(mixed + 16 * v, _mm512_mul_ps(part[v], factor));
}

static inline void attend(const float *query, const void *keys, const void *values,
                          int num_positions, int vectors, int is_half, float *scores, float *mixed)
{
    if (vectors == 4 && is_half)
        attend_head(query, keys, values, num_positions, 4, 1, scores, mixed);
    else if (vectors == 4)
        attend_head(query, keys, values, num_positions, 4, 0, scores, mixed);
    else
        attend_head(query, keys, values, num_positions, vectors, is_half, scores, mixed);
}

#endif
