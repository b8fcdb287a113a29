// Vectors of floats and doubles of the processor's width, by the vector extension of GCC and Clang.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

namespace oche {

using at::Tensor;
using I = int64_t;

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <typename T> struct Vec;
template <> struct Vec<float> {
  typedef float V __attribute__((vector_size(BYTES)));
  typedef float U __attribute__((vector_size(BYTES), aligned(4), may_alias));
  typedef int M __attribute__((vector_size(BYTES)));
};
template <> struct Vec<double> {
  typedef double V __attribute__((vector_size(BYTES)));
  typedef double U __attribute__((vector_size(BYTES), aligned(8), may_alias));
  typedef long long M __attribute__((vector_size(BYTES)));
};
template <typename T> using V = typename Vec<T>::V;
template <typename T> constexpr int L = BYTES / sizeof(T);

template <typename T> inline V<T> load(const T* p) { return *reinterpret_cast<const typename Vec<T>::U*>(p); }
template <typename T> inline void store(T* p, V<T> v) { *reinterpret_cast<typename Vec<T>::U*>(p) = v; }

#if defined(__clang__)
constexpr bool CAN_PACK = false;  // Clang has no shuffle by a variable mask
template <typename T> inline V<T> shuffle(V<T> v, typename Vec<T>::M) { return v; }
#else
constexpr bool CAN_PACK = true;
template <typename T> inline V<T> shuffle(V<T> v, typename Vec<T>::M m) { return __builtin_shuffle(v, m); }
#endif

// Memory aligned to a cache line; otherwise every load of a whole vector reads two lines.
template <typename T> struct Aligned {
  using value_type = T;
  static constexpr std::align_val_t line{64};
  Aligned() = default;
  template <typename U> Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
  void deallocate(T* p, size_t) { ::operator delete(p, line); }
  bool operator==(const Aligned&) const { return true; }
};
template <typename T> using Buffer = std::vector<T, Aligned<T>>;

// n rounded up to a multiple of `to`
inline I up(I n, I to) { return (n + to - 1) / to * to; }

}  // namespace oche
