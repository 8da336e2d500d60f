/* What is done to one row of floats: norms, rounding to 8 bits, GPT-2's gelu.
 *
 * All widths are multiples of 16 (`native_linear.py` sees to it), and each row's numbers depend on
 * that row alone.
 */
#ifndef ROWS_H
#define ROWS_H

#include <immintrin.h>
#include <stdint.h>

#define NORM_EPS 1e-5f /* of GPT-2 and of torch's LayerNorm alike */

/* e to the power of x, to about 2 units in the last place: 2^n times a polynomial in what is left. */
static inline __m512 exp_of(__m512 x)
{
    /* beyond these the result is 0 or infinite; a NaN stays, for the second operand wins */
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts, so that nothing is lost (Cody and Waite) */
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    /* coefficients of Cephes' expf */
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* GPT-2's gelu: x/2 (1 + tanh u) is x / (1 + e^-2u). */
static inline __m512 gelu_of(__m512 x)
{
    const float twice_root = 2 * 0.7978845608f; /* sqrt(2 / pi) */
    __m512 cubed = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    __m512 u = _mm512_fmadd_ps(cubed, _mm512_set1_ps(0.044715f), x);
    __m512 e = exp_of(_mm512_mul_ps(u, _mm512_set1_ps(-twice_root)));
    return _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1.0f)));
}

/* Layer norm of `width` floats: mean first, then the variance about it. */
static inline void normalise(const float *row, const float *weight, const float *bias, int width,
                             float *normed)
{
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int i = 0; i < width; i += 16)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(row + i));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
    for (int i = 0; i < width; i += 16) {
        __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(row + i), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    __m512 variance = _mm512_set1_ps(_mm512_reduce_add_ps(squares) / width + NORM_EPS);
    __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(variance));
    for (int i = 0; i < width; i += 16) {
        __m512 apart = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + i), mean), factor);
        _mm512_storeu_ps(normed + i, _mm512_fmadd_ps(apart, _mm512_loadu_ps(weight + i),
                                                     _mm512_loadu_ps(bias + i)));
    }
}

/* Rounds a row, after adding `shift`, to whole steps from `middle`, and returns its largest number.
 *
 * That is `num_steps` steps; without a shift it is the largest of either sign. NaN where any number
 * of the row is: what is then multiplied with it is NaN, and no broken row is made whole. */
static inline float round_to_steps(const float *row, int width, float shift, int middle,
                                   int num_steps, uint8_t *steps)
{
    __m512 added = _mm512_set1_ps(shift), largest = _mm512_setzero_ps();
    __mmask16 broken = 0;
    for (int i = 0; i < width; i += 16) {
        __m512 x = _mm512_add_ps(_mm512_loadu_ps(row + i), added);
        broken |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(x));
    }
    float most = broken ? __builtin_nanf("") : _mm512_reduce_max_ps(largest);
    __m512 factor = _mm512_set1_ps(most > 0 ? num_steps / most : 0.0f);
    __m512i zero = _mm512_set1_epi32(middle);
    for (int i = 0; i < width; i += 16) {
        __m512 x = _mm512_add_ps(_mm512_loadu_ps(row + i), added);
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
        _mm_storeu_si128((__m128i *)(steps + i),
                         _mm512_cvtusepi32_epi8(_mm512_max_epi32(
                             _mm512_add_epi32(whole, zero), _mm512_setzero_si512())));
    }
    return most;
}

#endif
