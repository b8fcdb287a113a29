// The inner loops: taps of depthwise convolutions, products of pixels with matrices, and the gradients of both.
// n: number of pixels or vectors; ld*: row strides; nv: width in vectors; V<T>: a vector of L<T> numbers.
#pragma once

#include "sizes.h"

namespace oche {

// dst[i] = sum over nt taps of src[i + off_t] * w_t, for i = 0, S, 2S, ... (N vectors, unrolled)
template <typename T, int N>
inline void taps_block(T* dst, const T* src, I S, const I* off, const T* w, I ws, I nt) {
  V<T> acc[N];
  for (int j = 0; j < N; ++j) acc[j] = V<T>{};
  for (I t = 0; t < nt; ++t) {
    V<T> wv = load(w + t * ws);
    const T* s = src + off[t];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) acc[j] += load(s + j * S) * wv;
  }
  for (int j = 0; j < N; ++j) store(dst + j * S, acc[j]);
}

// The same for n vectors.
template <typename T>
void taps_row(T* dst, const T* src, I S, I n, const I* off, const T* w, I ws, I nt) {
  I i = 0;
  for (; i + 8 <= n; i += 8) taps_block<T, 8>(dst + i * S, src + i * S, S, off, w, ws, nt);
  for (; i + 4 <= n; i += 4) taps_block<T, 4>(dst + i * S, src + i * S, S, off, w, ws, nt);
  for (; i < n; ++i) taps_block<T, 1>(dst + i * S, src + i * S, S, off, w, ws, nt);
}

// dst (PX, ldd) = or += a (PX, lda) @ b (cin, ldb), NV vectors wide
template <typename T, int PX, int NV, bool ADD>
inline void gemm_block(T* dst, I ldd, const T* a, I lda, const T* b, I ldb, I cin) {
  V<T> acc[PX][NV];
  for (int p = 0; p < PX; ++p)
    for (int v = 0; v < NV; ++v) acc[p][v] = ADD ? load(dst + p * ldd + v * L<T>) : V<T>{};
  for (I c = 0; c < cin; ++c) {
    V<T> bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = load(b + c * ldb + v * L<T>);
#pragma GCC unroll 16
    for (int p = 0; p < PX; ++p) {
      T s = a[p * lda + c];
      for (int v = 0; v < NV; ++v) acc[p][v] += s * bv[v];
    }
  }
  for (int p = 0; p < PX; ++p)
    for (int v = 0; v < NV; ++v) store(dst + p * ldd + v * L<T>, acc[p][v]);
}

template <typename T, int NV, int PX, bool ADD>
void gemm_wide(T* dst, I ldd, const T* a, I lda, const T* b, I ldb, I n, I cin) {
  I p = 0;
  for (; p + PX <= n; p += PX) gemm_block<T, PX, NV, ADD>(dst + p * ldd, ldd, a + p * lda, lda, b, ldb, cin);
  for (; p + 2 <= n; p += 2) gemm_block<T, 2, NV, ADD>(dst + p * ldd, ldd, a + p * lda, lda, b, ldb, cin);
  for (; p < n; ++p) gemm_block<T, 1, NV, ADD>(dst + p * ldd, ldd, a + p * lda, lda, b, ldb, cin);
}

template <typename T, bool ADD>
void gemm(T* dst, I ldd, const T* a, I lda, const T* b, I ldb, I n, I cin, I nv) {
  I v = 0;
  for (; v + 4 <= nv; v += 4) gemm_wide<T, 4, 6, ADD>(dst + v * L<T>, ldd, a, lda, b + v * L<T>, ldb, n, cin);
  if (nv - v == 3) gemm_wide<T, 3, 8, ADD>(dst + v * L<T>, ldd, a, lda, b + v * L<T>, ldb, n, cin);
  if (nv - v == 2) gemm_wide<T, 2, 8, ADD>(dst + v * L<T>, ldd, a, lda, b + v * L<T>, ldb, n, cin);
  if (nv - v == 1) gemm_wide<T, 1, 8, ADD>(dst + v * L<T>, ldd, a, lda, b + v * L<T>, ldb, n, cin);
}

// out (M, ldo) += a (n, lda)^T @ b (n, ldb): the rows of out are columns of a
template <typename T, int M, int NV>
inline void outer_block(T* out, I ldo, const T* a, I lda, const T* b, I ldb, I n) {
  V<T> acc[M][NV];
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = load(out + i * ldo + v * L<T>);
  for (I p = 0; p < n; ++p) {
    V<T> bv[NV];
    for (int v = 0; v < NV; ++v) bv[v] = load(b + p * ldb + v * L<T>);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      T s = a[p * lda + i];
      for (int v = 0; v < NV; ++v) acc[i][v] += s * bv[v];
    }
  }
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < NV; ++v) store(out + i * ldo + v * L<T>, acc[i][v]);
}

template <typename T, int NV, int M>
void outer_wide(T* out, I ldo, const T* a, I lda, const T* b, I ldb, I n, I m) {
  I i = 0;
  for (; i + M <= m; i += M) outer_block<T, M, NV>(out + i * ldo, ldo, a + i, lda, b, ldb, n);
  for (; i < m; ++i) outer_block<T, 1, NV>(out + i * ldo, ldo, a + i, lda, b, ldb, n);
}

template <typename T>
void outer(T* out, I ldo, const T* a, I lda, const T* b, I ldb, I n, I m, I nv) {
  I v = 0;
  for (; v + 4 <= nv; v += 4) outer_wide<T, 4, 4>(out + v * L<T>, ldo, a, lda, b + v * L<T>, ldb, n, m);
  if (nv - v == 3) outer_wide<T, 3, 6>(out + v * L<T>, ldo, a, lda, b + v * L<T>, ldb, n, m);
  if (nv - v == 2) outer_wide<T, 2, 8>(out + v * L<T>, ldo, a, lda, b + v * L<T>, ldb, n, m);
  if (nv - v == 1) outer_wide<T, 1, 8>(out + v * L<T>, ldo, a, lda, b + v * L<T>, ldb, n, m);
}

// out[t] += sum over rows and vectors of src[. + off_t] * g[.], for NT taps
template <typename T, int NT>
inline void tapgrad_block(T* out, I wo, const T* src, I row_s, const T* g, I row_g, I S, I rows, I n, const I* off) {
  V<T> acc[NT];
  for (int t = 0; t < NT; ++t) acc[t] = load(out + t * wo);
  for (I y = 0; y < rows; ++y)
    for (I i = 0; i < n; ++i) {
      V<T> gv = load(g + y * row_g + i * S);
      const T* s = src + y * row_s + i * S;
#pragma GCC unroll 25
      for (int t = 0; t < NT; ++t) acc[t] += load(s + off[t]) * gv;
    }
  for (int t = 0; t < NT; ++t) store(out + t * wo, acc[t]);
}

template <typename T>
void tapgrad(T* out, I wo, const T* src, I row_s, const T* g, I row_g, I S, I rows, I n, const I* off, I nt) {
  I t = 0;
  for (; t + 25 <= nt && BYTES == 64; t += 25) tapgrad_block<T, 25>(out + t * wo, wo, src, row_s, g, row_g, S, rows, n, off + t);
  for (; t + 9 <= nt; t += 9) tapgrad_block<T, 9>(out + t * wo, wo, src, row_s, g, row_g, S, rows, n, off + t);
  for (; t < nt; ++t) tapgrad_block<T, 1>(out + t * wo, wo, src, row_s, g, row_g, S, rows, n, off + t);
}

// --- packed pixels: the same products if several pixels share a vector

// The shuffle that copies one channel of each pixel to all channels of that pixel.
template <typename T> typename Vec<T>::M spread_mask(I C, I channel) {
  typename Vec<T>::M m;
  for (int l = 0; l < L<T>; ++l) m[l] = l - l % C + channel;
  return m;
}

template <typename T, int C, bool ADD>
void packed_gemm_of(T* dst, const T* a, const T* b, I n) {  // b (C, L): row ci holds W[ci][l % C]
  typename Vec<T>::M masks[C];
  V<T> w[C];
  for (int c = 0; c < C; ++c) { masks[c] = spread_mask<T>(C, c); w[c] = load(b + c * L<T>); }
  for (I i = 0; i < n; ++i) {
    V<T> acc = ADD ? load(dst + i * L<T>) : V<T>{}, av = load(a + i * L<T>);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc += shuffle<T>(av, masks[c]) * w[c];
    store(dst + i * L<T>, acc);
  }
}

template <typename T, int C>
void packed_outer_of(T* out, const T* a, const T* b, I n) {  // out (C, L); the caller adds up the lanes of each channel
  typename Vec<T>::M masks[C];
  V<T> acc[C];
  for (int c = 0; c < C; ++c) { masks[c] = spread_mask<T>(C, c); acc[c] = load(out + c * L<T>); }
  for (I i = 0; i < n; ++i) {
    V<T> av = load(a + i * L<T>), bv = load(b + i * L<T>);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) acc[c] += shuffle<T>(av, masks[c]) * bv;
  }
  for (int c = 0; c < C; ++c) store(out + c * L<T>, acc[c]);
}

template <typename T, bool ADD> void packed_gemm(T* dst, const T* a, const T* b, I n, I C) {
  switch (C) {
    case 1: return packed_gemm_of<T, 1, ADD>(dst, a, b, n);
    case 2: return packed_gemm_of<T, 2, ADD>(dst, a, b, n);
    case 4: return packed_gemm_of<T, 4, ADD>(dst, a, b, n);
    default: return packed_gemm_of<T, 8, ADD>(dst, a, b, n);
  }
}

template <typename T> void packed_outer(T* out, const T* a, const T* b, I n, I C) {
  switch (C) {
    case 1: return packed_outer_of<T, 1>(out, a, b, n);
    case 2: return packed_outer_of<T, 2>(out, a, b, n);
    case 4: return packed_outer_of<T, 4>(out, a, b, n);
    default: return packed_outer_of<T, 8>(out, a, b, n);
  }
}

}  // namespace oche
