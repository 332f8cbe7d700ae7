// Vectors of numbers, and how they come from memory and go there, for kernels on a CPU.
//
// Macros say of what type:
//   INPUT            float, double or Bfloat16: type of the elements of large tensors
//   STATE            float or double: type that is computed in

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#define INLINE __attribute__((always_inline)) inline
#define INLINE_BODY __attribute__((always_inline))

namespace {

struct Bfloat16 {
    uint16_t bits;
};

using State = STATE;
using Input = INPUT;

constexpr int64_t MOST_GROUPS = 64;  // of rows, which threads share
constexpr int64_t BYTES_PAST_CACHE = int64_t(1) << 25;  // outputs from here on are not kept in the cache

// Vectors of LANES states: compilers do not vectorise these loops by themselves.
#ifdef __AVX512F__
constexpr int64_t LANES = 64 / sizeof(State);
#else
constexpr int64_t LANES = 32 / sizeof(State);
#endif
typedef State V __attribute__((vector_size(LANES * sizeof(State))));
typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

INLINE int64_t ratio_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

INLINE V splat(State value) { return V{} + value; }

INLINE V larger(V a, V b) { return a < b ? b : a; }  // a, if that is not a number
INLINE V magnitude(V x) { return larger(x, -x); }

// a * b + c in one rounding where the machine has it: for gradients, since spikes must not depend on it.
INLINE V fused(V a, V b, V c) {
    [[maybe_unused]] constexpr bool is_single = std::is_same_v<State, float>;
#if defined(__AVX512F__)
    if constexpr (is_single) return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    else return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
    if constexpr (is_single) return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    else return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

// 1 / x, in single precision within 1 ulp: a division takes as long as all that is around it.
INLINE V reciprocal(V x) {
#ifdef __AVX512F__
    if constexpr (std::is_same_v<State, float>) {
        // Newton's step would make NaN of infinity.
        __m512 finite = _mm512_min_ps(_mm512_set1_ps(3.4028235e38f), (__m512)x);
        V guess = (V)_mm512_rcp14_ps(finite);
        return fused(guess, fused(-(V)finite, guess, splat(1)), guess);
    }
#endif
    return 1 / x;
}

INLINE V as_states(V x) { return x; }
INLINE V as_states(Halves x) {
    Words bits = __builtin_convertvector(x, Words) << 16;
    return __builtin_convertvector((Floats)bits, V);
}

INLINE void as_inputs(V x, V& to) { to = x; }
INLINE void as_inputs(V x, Halves& to) {
    Floats value = __builtin_convertvector(x, Floats);
    Words bits = (Words)value;
    Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to = __builtin_convertvector(value == value ? rounded : Words{} + 0x7fc0u, Halves);
}

template <class T>
struct Packed {
    typedef V Type;
};
template <>
struct Packed<Bfloat16> {
    typedef Halves Type;
};

// Where a vector lies in a stretch of memory: at element i, whole or cut off by the end.
struct Whole {
    int64_t i;
    constexpr int64_t bytes(int64_t size) const { return LANES * size; }
};
struct Part {
    int64_t i, count;
    int64_t bytes(int64_t size) const { return count * size; }
};

template <class T, class At>
INLINE V load(const T* from, At at) {
    typename Packed<T>::Type packed{};
    std::memcpy(&packed, from + at.i, at.bytes(sizeof(T)));
    return as_states(packed);
}

template <class T, class At>
INLINE void store(T* to, At at, V value) {
    typename Packed<T>::Type packed;
    as_inputs(value, packed);
    std::memcpy(to + at.i, &packed, at.bytes(sizeof(T)));
}

// Whether an output at this place is written past the cache, which would read it before it is overwritten.
INLINE bool streams(const Input* to, int64_t total_length) {
#ifdef __AVX__
    return std::is_same_v<Input, State> && total_length * int64_t(sizeof(Input)) >= BYTES_PAST_CACHE &&
           reinterpret_cast<uintptr_t>(to) % 32 == 0;
#else
    return false;
#endif
}

template <class At>
INLINE void write(Input* to, At at, V value, bool past_cache) {
#ifdef __AVX__
    if constexpr (std::is_same_v<At, Whole>) {
        if (past_cache) {
            double parts[sizeof(V) / sizeof(double)];
            std::memcpy(parts, &value, sizeof(V));
            for (size_t i = 0; i < sizeof(V) / sizeof(double); i += 4) {
                _mm256_stream_pd(reinterpret_cast<double*>(to + at.i) + i, _mm256_loadu_pd(parts + i));
            }
            return;
        }
    }
#endif
    store(to, at, value);
}

// Makes what was written past the cache visible to other threads.
INLINE void finish_writing() {
#ifdef __AVX__
    _mm_sfence();
#endif
}

// The caches' own prefetching stops at the end of a page, and the next step's stretch lies in another. Into
// the second cache: what is fetched into the first waits in the same few places as what is loaded.
INLINE void fetch(const Input* from, int64_t i) { __builtin_prefetch(from + i, 0, 2); }

template <class Body>
INLINE void for_each_vector(int64_t length, Body body) {
    int64_t i = 0;
    for (; i + LANES <= length; i += LANES) body(Whole{i});
    if (i < length) body(Part{i, length - i});
}

INLINE State total(V x) {
    State sum = 0;
    for (int64_t lane = 0; lane < LANES; ++lane) sum += x[lane];
    return sum;
}

}  // namespace
