// Kernels of the native form, compiled on first use (see native.py). All tensors are channels_last: pixel after pixel, the
// channels of a pixel side by side.
//
// A "stage" is ReLU -> depthwise k x k -> pointwise 1 x 1, or ReLU -> dense k x k, or the two shifted 1 x 1 of a factorised
// reduction: what stands between two BatchNorms of a candidate. It reads its input, through the BatchNorm in front of it if there
// is one, and writes z, whose mean and variance it sums up as it goes. Everything between input and z of one image stays in cache
// and is never stored: the backward computes it again. A "node" is the sum over candidates of weight * BatchNorm(last z).
//
// Legend. B images, C channels, H x W pixels in, Ho x Wo out, s stride. V: a vector of L numbers. Cs: channels as stored in
// buffers here, a multiple of L with zeros behind, or, in "packed" mode, C itself where G = L / C pixels fill one vector.
// P: the padded input of one image, cut into s x s phases, so that every tap of a strided convolution walks along a row.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace {

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
constexpr bool CAN_PACK = false;  // no shuffle by a variable there
template <typename T> inline V<T> shuffle(V<T> v, typename Vec<T>::M) { return v; }
#else
constexpr bool CAN_PACK = true;
template <typename T> inline V<T> shuffle(V<T> v, typename Vec<T>::M m) { return __builtin_shuffle(v, m); }
#endif

inline I up(I n, I to) { return (n + to - 1) / to * to; }

// --- sizes --------------------------------------------------------------------------------------------------------------

struct Shape {
  I C, Cs, G;   // channels; as stored; pixels a vector (1: not packed)
  I vectors;    // vectors a pixel (1 when packed)
  Shape() = default;
  Shape(I c, bool pack, int lanes) : C(c) {
    bool packed = CAN_PACK && pack && c < lanes && lanes % c == 0;
    Cs = packed ? c : up(c, lanes);
    G = packed ? lanes / c : 1;
    vectors = packed ? 1 : Cs / lanes;
  }
};

// P of one image: s * s phases of Hq x Wq pixels, the image m pixels in.
struct Frame {
  I H, W, Ho, Wo, s, m, Hq, Wq, Cs;
  Frame(I h, I w, I stride, I margin, I cs, I slack)
      : H(h), W(w), Ho((h + stride - 1) / stride), Wo((w + stride - 1) / stride), s(stride), m(margin),
        Hq((h + 2 * margin + stride - 1) / stride), Wq((w + 2 * margin + stride - 1) / stride + slack), Cs(cs) {}
  I size() const { return s * s * Hq * Wq * Cs; }
  I at(I y, I x) const {  // where pixel (y, x) of the image lies
    I py = y + m, px = x + m;
    return (((py % s) * s + px % s) * Hq + py / s) * Wq * Cs + px / s * Cs;
  }
  I tap(I dy, I dx) const {  // from an output pixel (its row times Wq * Cs) to what lies (dy, dx) from it in the input
    I ay = m + dy, ax = m + dx;
    return (((ay % s) * s + ax % s) * Hq + ay / s) * Wq * Cs + ax / s * Cs;
  }
};

// One convolution with the geometry of its taps; kernel 0 stands for the two taps (0, 0) and (1, 1) of a factorised reduction.
struct Conv {
  I k, dilation, pad, taps;
  Conv(I kernel, I d) : k(kernel), dilation(d), pad(kernel ? d * (kernel - 1) / 2 : 0), taps(kernel ? kernel * kernel : 2) {}
  I dy(I t) const { return k ? t / k * dilation - pad : t; }
  I dx(I t) const { return k ? t % k * dilation - pad : t; }
  I reach() const { return k ? pad : 1; }
};

// --- three inner loops --------------------------------------------------------------------------------------------------

// dst[i] = sum over taps of src[i + off_t] * w_t, i = 0, S, 2S ... (n vectors)
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

template <typename T>
void taps_row(T* dst, const T* src, I S, I n, const I* off, const T* w, I ws, I nt) {
  I i = 0;
  for (; i + 8 <= n; i += 8) taps_block<T, 8>(dst + i * S, src + i * S, S, off, w, ws, nt);
  for (; i + 4 <= n; i += 4) taps_block<T, 4>(dst + i * S, src + i * S, S, off, w, ws, nt);
  for (; i < n; ++i) taps_block<T, 1>(dst + i * S, src + i * S, S, off, w, ws, nt);
}

// dst (n, ldd) (+)= a (n, lda) @ b (cin, ldb), NV vectors wide
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

// out (m, ldo) += a (n, lda)^T @ b (n, ldb): rows of out are columns of a
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

// out[t] += sum over rows and vectors of src[. + off_t] * g[.], NT taps at a time
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

// --- packed pixels: the same products where several pixels share a vector ----------------------------------------------

template <typename T> typename Vec<T>::M spread_mask(I C, I channel) {
  typename Vec<T>::M m;
  for (int l = 0; l < L<T>; ++l) m[l] = l - l % C + channel;
  return m;
}

template <typename T, bool ADD>
void packed_gemm(T* dst, const T* a, const T* b, I n, I C) {  // b (C, L): row ci holds W[ci][l % C]
  for (I i = 0; i < n; ++i) {
    V<T> acc = ADD ? load(dst + i * L<T>) : V<T>{}, av = load(a + i * L<T>);
    for (I c = 0; c < C; ++c) acc += shuffle<T>(av, spread_mask<T>(C, c)) * load(b + c * L<T>);
    store(dst + i * L<T>, acc);
  }
}

template <typename T>
void packed_outer(T* out, const T* a, const T* b, I n, I C) {  // out (C, L), lanes still to be folded
  for (I c = 0; c < C; ++c) {
    auto m = spread_mask<T>(C, c);
    V<T> acc = load(out + c * L<T>);
    for (I i = 0; i < n; ++i) acc += shuffle<T>(load(a + i * L<T>), m) * load(b + i * L<T>);
    store(out + c * L<T>, acc);
  }
}

// --- loops over channels ---------------------------------------------------------------------------------------------------

// Numbers by channel, repeated so that a vector of them can be read at any multiple of L (where `even` says so).
template <typename T> struct Channels {
  I C, period;
  std::vector<T> v;
  Channels() : C(0), period(1) {}
  explicit Channels(const double* from, I c) : C(c), period(c % L<T> == 0 ? c : L<T>), v(std::max(period, c)) {
    for (size_t e = 0; e < v.size(); ++e) v[e] = T(from[e % c]);
  }
  bool even() const { return C % L<T> == 0 || L<T> % C == 0; }
};

// f(e, c): elements e .. e + L of n, whose channels start at c; then g(e, c) for each that is left.
template <typename T, typename F, typename G> inline void each(I n, I C, F f, G g) {
  I e = 0;
  if (C % L<T> == 0)
    for (; e < n; e += C)
      for (I c = 0; c < C; c += L<T>) f(e + c, c);
  else if (L<T> % C == 0)
    for (; e + L<T> <= n; e += L<T>) f(e, 0);
  for (I c = e % C; e < n; ++e, c = c + 1 == C ? 0 : c + 1) g(e, c);
}

template <typename T> inline V<T> positive(V<T> v) { return v < 0 ? V<T>{} : v; }  // NaN stays NaN

// P of one image: relu(x), or relu(x * scale + shift). What is not image is left as it is.
template <typename T> void fill(T* P, const Frame& f, const T* x, I C, const Channels<T>* scale, const Channels<T>* shift) {
  for (I y = 0; y < f.H; ++y) {
    const T* from = x + y * f.W * C;
    if (f.s == 1 && f.Cs == C) {
      T* to = P + f.at(y, 0);
      if (scale) {
        const T *a = scale->v.data(), *b = shift->v.data();
        each<T>(f.W * C, C, [&](I e, I c) { store(to + e, positive<T>(load(from + e) * load(a + c) + load(b + c))); },
                [&](I e, I c) { T v = from[e] * a[c] + b[c]; to[e] = v < 0 ? T(0) : v; });
      } else {
        each<T>(f.W * C, C, [&](I e, I) { store(to + e, positive<T>(load(from + e))); },
                [&](I e, I) { T v = from[e]; to[e] = v < 0 ? T(0) : v; });
      }
      continue;
    }
    for (I px = 0; px < f.W; ++px) {
      T* to = P + f.at(y, px);
      const T* src = from + px * C;
      for (I c = 0; c < C; ++c) {
        T v = scale ? src[c] * scale->v[c] + shift->v[c] : src[c];
        to[c] = v < 0 ? T(0) : v;
      }
    }
  }
}

template <typename T> void copy(T* P, const Frame& f, const T* x, I C) {
  for (I y = 0; y < f.H; ++y)
    for (I px = 0; px < f.W; ++px) std::copy_n(x + (y * f.W + px) * C, C, P + f.at(y, px));
}

// Column sums of a (n, C) and of a * b, in T over a few rows at a time, then in double.
template <typename T> void sums(double* s0, double* s1, const T* a, const T* b, I n, I C, std::vector<T>& t) {
  constexpr I CHUNK = 128;
  I width = up(std::max<I>(C, L<T>), L<T>);
  t.assign(2 * width, T(0));
  T *t0 = t.data(), *t1 = t0 + width;
  for (I p = 0; p < n; p += CHUNK) {
    I m = std::min(n, p + CHUNK) - p;
    const T *u = a + p * C, *w = b + p * C;
    std::fill(t.begin(), t.end(), T(0));
    if (C % L<T> == 0) {
      for (I c = 0; c < C; c += L<T>) {
        V<T> x0{}, x1{}, y0{}, y1{};
        I q = 0;
        for (; q + 2 <= m; q += 2) {
          V<T> v0 = load(u + q * C + c), v1 = load(u + (q + 1) * C + c);
          x0 += v0; y0 += v1;
          x1 += v0 * load(w + q * C + c); y1 += v1 * load(w + (q + 1) * C + c);
        }
        for (; q < m; ++q) { V<T> v = load(u + q * C + c); x0 += v; x1 += v * load(w + q * C + c); }
        store(t0 + c, x0 + y0);
        store(t1 + c, x1 + y1);
      }
    } else {
      V<T> x0{}, x1{};
      each<T>(m * C, C, [&](I e, I) { V<T> v = load(u + e); x0 += v; x1 += v * load(w + e); },
              [&](I e, I c) { t0[c] += u[e]; t1[c] += u[e] * w[e]; });
      if (L<T> % C == 0)
        for (I l = 0; l < L<T>; ++l) { t0[l % C] += x0[l]; t1[l % C] += x1[l]; }
    }
    for (I d = 0; d < C; ++d) { s0[d] += t0[d]; s1[d] += t1[d]; }
  }
}

// --- a stage -------------------------------------------------------------------------------------------------------------

template <typename T> struct Stage {
  Conv conv;
  bool depthwise, halves;   // halves: a factorised reduction, each tap of which makes one half of the channels
  Shape in, out;
  std::vector<I> off;       // taps in P
  std::vector<T> dw;        // (taps, ws)
  std::vector<T> forth;     // matrices x (cin, ldf)
  std::vector<T> back;      // the same, transposed: (cout, ldb)
  I ws;
  I matrices() const { return depthwise ? 1 : conv.taps; }
  I ldf() const { return out.G > 1 ? L<T> : out.Cs; }
  I ldb() const { return in.G > 1 ? L<T> : in.Cs; }
  I weights() const { return (depthwise ? conv.taps * ws : 0) + matrices() * out.C * ldb(); }

  Stage(const Tensor& depth, const std::vector<Tensor>& dense, I kernel, I dilation, bool pack)
      : conv(kernel, dilation), depthwise(depth.defined()), halves(kernel == 0) {
    I cin = dense[0].size(1), cout = 0;
    for (auto& d : dense) cout += d.size(0);
    in = Shape(cin, pack, L<T>);
    out = Shape(cout, pack, L<T>);
    ws = in.G > 1 ? L<T> : in.Cs;
    if (depthwise) {
      dw.assign(conv.taps * ws, 0);
      const T* w = depth.const_data_ptr<T>();  // (C, 1, k, k)
      for (I t = 0; t < conv.taps; ++t)
        for (I l = 0; l < (in.G > 1 ? L<T> : in.C); ++l) dw[t * ws + l] = w[l % in.C * conv.taps + t];
    }
    I m = matrices(), row = 0;
    forth.assign(m * in.C * ldf(), 0);
    back.assign(m * out.C * ldb(), 0);
    for (size_t part = 0; part < dense.size(); ++part) {
      const T* w = dense[part].const_data_ptr<T>();  // (Cout, Cin, k, k), or (.., 1, 1)
      I each = halves ? 1 : m;
      for (I t = 0; t < each; ++t)
        for (I ci = 0; ci < in.C; ++ci)
          for (I co = 0; co < dense[part].size(0); ++co) {
            T v = w[(co * in.C + ci) * each + t];
            I at = halves ? part : t, to = row + co;
            for (I g = 0; g < out.G; ++g) forth[(at * in.C + ci) * ldf() + g * out.C + to] = v;
            for (I g = 0; g < in.G; ++g) back[(at * out.C + to) * ldb() + g * in.C + ci] = v;
          }
      row += dense[part].size(0);
    }
  }

  void place(const Frame& f) {
    off.resize(conv.taps);
    for (I t = 0; t < conv.taps; ++t) off[t] = f.tap(conv.dy(t), conv.dx(t));
  }

  // Output channels that matrix t makes: all, but for halves that end with a vector.
  std::pair<I, I> range(I t) const {
    I half = out.C / 2;
    if (!halves || out.G > 1 || half % L<T>) return {0, out.C};
    return t ? std::pair<I, I>{half, out.C} : std::pair<I, I>{0, half};
  }

  // D (n pixels, in.Cs): depthwise row y of P
  void depth_row(T* D, const T* P, const Frame& f, I y, I n) const {
    const T* src = P + y * f.Wq * f.Cs;
    if (in.G > 1) return taps_row(D, src, L<T>, n / in.G, off.data(), dw.data(), ws, conv.taps);
    for (I c = 0; c < in.vectors; ++c)
      taps_row(D + c * L<T>, src + c * L<T>, in.Cs, n, off.data(), dw.data() + c * L<T>, ws, conv.taps);
  }

  // Z (n pixels, out.Cs) (+)= A (n pixels, in.Cs) @ matrix t
  template <bool ADD> void mix_row(T* Z, const T* A, I n, I t) const {
    const T* b = forth.data() + t * in.C * ldf();
    if (in.G > 1) return packed_gemm<T, ADD>(Z, A, b, n / in.G, in.C);
    auto [lo, hi] = range(t);
    gemm<T, ADD>(Z + lo, out.Cs, A, in.Cs, b + lo, ldf(), n, in.C, (hi - lo + L<T> - 1) / L<T>);
  }

  template <bool ADD> void unmix_row(T* A, const T* Z, I n, I t) const {
    auto [lo, hi] = range(t);
    const T* b = back.data() + (t * out.C + lo) * ldb();
    if (in.G > 1) return packed_gemm<T, ADD>(A, Z, b, n / in.G, in.C);
    gemm<T, ADD>(A, in.Cs, Z + lo, out.Cs, b, ldb(), n, hi - lo, in.vectors);
  }

  void gather_row(T* to, const T* Z, const T* A, I n, I t) const {  // gradient of matrix t
    auto [lo, hi] = range(t);
    T* out_ = to + (t * out.C + lo) * ldb();
    if (in.G > 1) return packed_outer(out_, Z, A, n / in.G, in.C);
    outer(out_, ldb(), Z + lo, out.Cs, A, in.Cs, n, hi - lo, in.vectors);
  }

  void forward_row(T* Z, T* D, const T* P, const Frame& f, I y, I n) const {
    if (depthwise) {
      depth_row(D, P, f, y, n);
      mix_row<false>(Z, D, n, 0);
      return;
    }
    const T* src = P + y * f.Wq * f.Cs;
    mix_row<false>(Z, src + off[0], n, 0);
    for (I t = 1; t < conv.taps; ++t)
      if (halves && range(t).first) mix_row<false>(Z, src + off[t], n, t);
      else mix_row<true>(Z, src + off[t], n, t);
  }

  // Gradients as tensors, from sums laid out as dw and back are.
  void unpack(const T* sum, bool has_depth, const std::vector<Tensor>& like, std::vector<Tensor>& to) const {
    I lanes = in.G > 1 ? L<T> : in.C, row = 0, m = matrices();
    if (has_depth) {
      Tensor d = at::zeros({in.C, 1, conv.k, conv.k}, like[0].options());
      T* p = d.mutable_data_ptr<T>();
      for (I t = 0; t < conv.taps; ++t)
        for (I l = 0; l < lanes; ++l) p[l % in.C * conv.taps + t] += sum[t * ws + l];
      to.push_back(d);
      sum += conv.taps * ws;
    }
    for (size_t part = 0; part < like.size(); ++part) {
      Tensor d = at::zeros(like[part].sizes(), like[part].options());
      T* p = d.mutable_data_ptr<T>();
      I each = halves ? 1 : m, rows = d.size(0);
      for (I t = 0; t < each; ++t)
        for (I c = 0; c < rows; ++c)
          for (I l = 0; l < lanes; ++l)
            p[(c * in.C + l % in.C) * each + t] += sum[((halves ? part : t) * out.C + row + c) * ldb() + l];
      row += rows;
      to.push_back(d);
    }
  }
};

// --- one level of a node: all first stages, or all second ones ------------------------------------------------------------

template <typename T> struct Job {
  Stage<T> stage;
  T* z = nullptr;                 // forward: where it goes
  const T *g = nullptr, *zin = nullptr;  // backward: gradient = a g + b z + c
  Channels<T> a, b, c;
  double* stats = nullptr;        // (2, C): mean and biased variance
  I at = 0;                       // where its weight gradients start in a thread's share
};

template <typename T> struct Group {  // jobs that read one input
  const T* x = nullptr;
  bool normed = false;
  Channels<T> scale, shift;
  std::vector<Job<T>> jobs;
  T* gx = nullptr;                // backward: gradient behind the ReLU; filled before
  double* moments = nullptr;      // (2, C): sums of that gradient, and of it times the input
};

struct Geometry {
  I B, C, H, W, s;
  bool operator==(const Geometry& o) const { return B == o.B && C == o.C && H == o.H && W == o.W && s == o.s; }
};

template <typename T> Frame frame(std::vector<Group<T>*>& groups, const Geometry& q) {
  I margin = 0;
  for (auto* g : groups)
    for (auto& j : g->jobs) margin = std::max(margin, j.stage.conv.reach());
  const Shape& in = groups[0]->jobs[0].stage.in;
  Frame f(q.H, q.W, q.s, margin, in.Cs, in.G);
  for (auto* g : groups)
    for (auto& j : g->jobs) j.stage.place(f);
  return f;
}

template <typename T> void to_pixels(T* to, const T* from, I n, I C, I Cs) {
  if (C == Cs) std::copy_n(from, n * C, to);
  else for (I p = 0; p < n; ++p) std::copy_n(from + p * Cs, C, to + p * C);
}

template <typename T> void forward(std::vector<Group<T>*>& groups, const Geometry& q) {
  Frame f = frame(groups, q);
  I widest = 0, count = 0;
  for (auto* g : groups)
    for (auto& j : g->jobs) { widest = std::max(widest, j.stage.out.C); ++count; }
  const I threads = at::get_num_threads();
  std::vector<double> partial(threads * count * 2 * widest, 0.0);
  at::parallel_for(0, q.B, 1, [&](I begin, I end) {
    double* mine = partial.data() + at::get_thread_num() * count * 2 * widest;
    const I Wr = up(f.Wo, groups[0]->jobs[0].stage.in.G), wide = up(widest, L<T>);
    std::vector<T> P(f.size() + 2 * L<T>, 0), D(Wr * f.Cs + L<T>), Z(Wr * wide + L<T>), t;
    for (I b = begin; b < end; ++b) {
      I i = 0;
      for (auto* g : groups) {
        fill(P.data(), f, g->x + b * q.C * f.H * f.W, q.C, g->normed ? &g->scale : nullptr, &g->shift);
        for (auto& job : g->jobs) {
          auto& st = job.stage;
          T* z = job.z + b * st.out.C * f.Ho * f.Wo;
          bool direct = st.out.C == st.out.Cs && Wr == f.Wo;
          for (I y = 0; y < f.Ho; ++y) {
            T* row = z + y * f.Wo * st.out.C;
            st.forward_row(direct ? row : Z.data(), D.data(), P.data(), f, y, Wr);
            if (!direct) to_pixels(row, Z.data(), f.Wo, st.out.C, st.out.Cs);
          }
          sums(mine + 2 * i * widest, mine + (2 * i + 1) * widest, z, z, f.Ho * f.Wo, st.out.C, t);
          ++i;
        }
      }
    }
  });
  const double n = double(q.B) * f.Ho * f.Wo;
  I i = 0;
  for (auto* g : groups)
    for (auto& job : g->jobs) {
      I C = job.stage.out.C;
      for (I c = 0; c < C; ++c) {
        double s0 = 0, s1 = 0;
        for (I k = 0; k < threads; ++k) {
          const double* p = partial.data() + ((k * count + i) * 2) * widest;
          s0 += p[c]; s1 += p[widest + c];
        }
        double mean = s0 / n, var = s1 / n - mean * mean;
        job.stats[c] = mean;
        job.stats[C + c] = var < 0 ? 0 : var;  // NaN stays NaN
      }
      ++i;
    }
}

// GZ (Ho x Wr pixels, Cs) = a g + b z + c, zeros behind
template <typename T> void before_norm(T* GZ, const Job<T>& job, const Frame& f, I Wr, I image) {
  const I C = job.stage.out.C, Cs = job.stage.out.Cs;
  const T *g = job.g + image, *z = job.zin + image, *a = job.a.v.data(), *b = job.b.v.data(), *c = job.c.v.data();
  if (C == Cs && Wr == f.Wo) {
    each<T>(f.Ho * f.Wo * C, C,
            [&](I e, I k) { store(GZ + e, load(a + k) * load(g + e) + load(b + k) * load(z + e) + load(c + k)); },
            [&](I e, I k) { GZ[e] = a[k] * g[e] + b[k] * z[e] + c[k]; });
    return;
  }
  std::fill_n(GZ, f.Ho * Wr * Cs, T(0));
  for (I y = 0; y < f.Ho; ++y)
    for (I px = 0; px < f.Wo; ++px) {
      T* to = GZ + (y * Wr + px) * Cs;
      I from = (y * f.Wo + px) * C;
      for (I k = 0; k < C; ++k) to[k] = a[k] * g[from + k] + b[k] * z[from + k] + c[k];
    }
}

template <typename T>
void backward(std::vector<Group<T>*>& groups, const Geometry& q, bool need_w, std::vector<T>& weight_sums) {
  Frame f = frame(groups, q);
  I widest = 0, weights = 0, top = 0, left = 0;
  bool dense = false;
  for (auto* g : groups)
    for (auto& j : g->jobs) {
      widest = std::max(widest, j.stage.out.Cs);
      dense = dense || !j.stage.depthwise;
      j.at = weights;
      weights += need_w ? j.stage.weights() : 0;
      for (I t = 0; t < j.stage.conv.taps; ++t) {  // how far taps reach back, in pixels of a phase
        top = std::max(top, (f.m + j.stage.conv.dy(t)) / f.s);
        left = std::max(left, (f.m + j.stage.conv.dx(t)) / f.s);
      }
    }
  const I threads = at::get_num_threads(), G = groups[0]->jobs[0].stage.in.G, Wr = up(f.Wo, G), cs = f.Cs;
  const I Wd = f.Wq + left + 2 * G, Hd = f.Hq + top;  // padded gradient of the depthwise output
  std::vector<T> shares(threads * weights, 0);
  std::vector<double> moments(threads * groups.size() * 2 * q.C, 0.0);
  at::parallel_for(0, q.B, 1, [&](I begin, I end) {
    const I tid = at::get_thread_num();
    T* myw = shares.data() + tid * weights;
    std::vector<T> P(f.size() + 2 * L<T>, 0), GZ(f.Ho * Wr * widest + L<T>, 0), D(Wr * cs + L<T>, 0), t;
    std::vector<T> GD(Hd * Wd * cs + 2 * L<T>, 0), R(up(f.W + G, G) * cs + L<T>, 0);
    std::vector<T> GP(dense ? f.size() + 2 * L<T> : 0, 0);  // gradient of P, for dense stages alone
    std::vector<I> off;
    std::vector<T> w;
    for (I b = begin; b < end; ++b)
      for (size_t i = 0; i < groups.size(); ++i) {
        auto& group = *groups[i];
        const T* xi = group.x + b * q.C * f.H * f.W;
        T* gxi = group.gx + b * q.C * f.H * f.W;
        fill(P.data(), f, xi, q.C, group.normed ? &group.scale : nullptr, &group.shift);
        for (auto& job : group.jobs) {
          auto& st = job.stage;
          const I zc = st.out.Cs;
          before_norm(GZ.data(), job, f, Wr, b * st.out.C * f.Ho * f.Wo);
          if (!st.depthwise) std::fill(GP.begin(), GP.end(), T(0));
          T* of_dense = myw + job.at + (st.depthwise ? st.conv.taps * st.ws : 0);
          for (I y = 0; y < f.Ho; ++y) {
            const T *gz = GZ.data() + y * Wr * zc, *src = P.data() + y * f.Wq * cs;
            if (st.depthwise) {
              st.template unmix_row<false>(GD.data() + ((y + top) * Wd + left) * cs, gz, Wr, 0);
              if (need_w) {
                st.depth_row(D.data(), P.data(), f, y, Wr);
                st.gather_row(of_dense, gz, D.data(), Wr, 0);
              }
            } else {
              for (I tap = 0; tap < st.conv.taps; ++tap) {
                st.template unmix_row<true>(GP.data() + y * f.Wq * cs + st.off[tap], gz, Wr, tap);
                if (need_w) st.gather_row(of_dense, gz, src + st.off[tap], Wr, tap);
              }
            }
          }
          if (need_w && st.depthwise)
            for (I c = 0; c < st.in.vectors; ++c)
              tapgrad(myw + job.at + c * L<T>, st.ws, P.data() + c * L<T>, f.Wq * cs,
                      GD.data() + (top * Wd + left) * cs + c * L<T>, Wd * cs, G > 1 ? L<T> : cs, f.Ho,
                      G > 1 ? Wr / G : f.Wo, st.off.data(), st.conv.taps);
          for (I phase = 0; phase < f.s * f.s; ++phase) {  // to the input, rows of each phase
            const I qy = phase / f.s, qx = phase % f.s;
            if (st.depthwise) {
              off.clear();
              w.clear();
              for (I tap = 0; tap < st.conv.taps; ++tap) {
                I ay = f.m + st.conv.dy(tap), ax = f.m + st.conv.dx(tap);
                if (ay % f.s != qy || ax % f.s != qx) continue;
                off.push_back(-(ay / f.s * Wd + ax / f.s) * cs);
                w.insert(w.end(), st.dw.begin() + tap * st.ws, st.dw.begin() + (tap + 1) * st.ws);
              }
              if (off.empty()) continue;
            }
            const I first = ((qx - f.m) % f.s + f.s) % f.s, n = (f.W - first + f.s - 1) / f.s, ix = (first + f.m) / f.s;
            for (I y = ((qy - f.m) % f.s + f.s) % f.s; y < f.H; y += f.s) {
              const I iy = (y + f.m) / f.s;
              const T* row = R.data();
              if (!st.depthwise) {
                row = GP.data() + (phase * f.Hq + iy) * f.Wq * cs + ix * cs;
              } else {
                const T* src = GD.data() + ((iy + top) * Wd + ix + left) * cs;
                if (G > 1) taps_row(R.data(), src, L<T>, up(n, G) / G, off.data(), w.data(), st.ws, (I)off.size());
                else
                  for (I c = 0; c < st.in.vectors; ++c)
                    taps_row(R.data() + c * L<T>, src + c * L<T>, cs, n, off.data(), w.data() + c * L<T>, st.ws,
                             (I)off.size());
              }
              const T* was = P.data() + f.at(y, first);
              T* to = gxi + (y * f.W + first) * q.C;
              if (f.s == 1 && cs == q.C)
                each<T>(n * cs, cs, [&](I e, I) { store(to + e, load(to + e) + (load(was + e) > 0 ? load(row + e) : V<T>{})); },
                        [&](I e, I) { to[e] += was[e] > 0 ? row[e] : T(0); });
              else
                for (I p = 0; p < n; ++p)
                  for (I c = 0; c < q.C; ++c) to[p * f.s * q.C + c] += was[p * cs + c] > 0 ? row[p * cs + c] : T(0);
            }
          }
        }
        if (group.moments) {
          double* m = moments.data() + (tid * groups.size() + i) * 2 * q.C;
          sums(m, m + q.C, gxi, xi, f.H * f.W, q.C, t);
        }
      }
  });
  for (size_t i = 0; i < groups.size(); ++i)
    if (groups[i]->moments)
      for (I e = 0; e < 2 * q.C; ++e) {
        double sum = 0;
        for (I k = 0; k < threads; ++k) sum += moments[(k * groups.size() + i) * 2 * q.C + e];
        groups[i]->moments[e] = sum;
      }
  weight_sums.assign(weights, 0);
  for (I k = 0; k < threads; ++k)
    for (I e = 0; e < weights; ++e) weight_sums[e] += shares[k * weights + e];
}

// --- a node ----------------------------------------------------------------------------------------------------------------

// Its candidates, as integers: for each term kind (0 stages, 1 a tensor that is there, 2 a source itself), which source or tensor,
// and how many normalisations; for each of those kernel (-1: nothing before it), dilation, stride, depthwise, affine, tracked.
struct Unit { I kernel, dilation, stride; bool depthwise, affine, tracked; double eps, momentum; I params; };
struct Term { I kind, index; std::vector<Unit> units; };

std::vector<Term> parse(at::IntArrayRef code, at::ArrayRef<double> numbers) {
  std::vector<Term> terms;
  I params = 0, n = 0;
  for (size_t i = 0; i < code.size();) {
    Term term{code[i], code[i + 1], {}};
    I units = code[i + 2];
    i += 3;
    for (I u = 0; u < units; ++u, i += 6, n += 2) {
      term.units.push_back({code[i], code[i + 1], code[i + 2], code[i + 3] != 0, code[i + 4] != 0, code[i + 5] != 0,
                            numbers[n], numbers[n + 1], params});
      const Unit& unit = term.units.back();
      params += unit.kernel < 0 ? 0 : (unit.kernel == 0 ? 2 : 1) + unit.depthwise;
      params += unit.affine ? 2 : 0;
    }
    terms.push_back(term);
  }
  return terms;
}

struct Parts { Tensor depth; std::vector<Tensor> dense; I after; };

Parts parts(const Unit& unit, at::TensorList params) {
  I at = unit.params;
  Parts p;
  if (unit.depthwise) p.depth = params[at++].contiguous();
  for (I i = 0; i < (unit.kernel == 0 ? 2 : 1); ++i) p.dense.push_back(params[at++].contiguous());
  p.after = at;
  return p;
}

// The normalisation of one z: what it does and how its gradient goes back, in double by channel.
struct Norm {
  std::vector<double> mean, r, gamma, beta;
  double count;
  Norm(const Unit* unit, const double* stats, I C, double n, at::TensorList params) : mean(C), r(C), gamma(C, 1), beta(C, 0), count(n) {
    if (!unit) { std::fill(r.begin(), r.end(), 1); return; }
    for (I c = 0; c < C; ++c) { mean[c] = stats[c]; r[c] = 1 / std::sqrt(stats[C + c] + unit->eps); }
    if (!unit->affine) return;
    I at = unit->params + (unit->kernel < 0 ? 0 : (unit->kernel == 0 ? 2 : 1) + unit->depthwise);
    Tensor a = params[at].to(at::kDouble), b = params[at + 1].to(at::kDouble);
    std::copy_n(a.const_data_ptr<double>(), C, gamma.begin());
    std::copy_n(b.const_data_ptr<double>(), C, beta.begin());
  }
};

Tensor last(const Tensor& t) { return t.contiguous(at::MemoryFormat::ChannelsLast); }

Tensor fresh(const Tensor& like, I B, I C, I H, I W) {
  return at::empty({B, C, H, W}, like.options(), at::MemoryFormat::ChannelsLast);
}

Geometry geometry(const Tensor& x, I stride) { return {x.size(0), x.size(1), x.size(2), x.size(3), stride}; }

void move_running(const Unit& unit, const double* stats, I C, double n, at::TensorList buffers, size_t& at) {
  if (!unit.tracked) return;
  const Tensor &mean = buffers[at], &var = buffers[at + 1];
  buffers[at + 2].add_(1);
  at += 3;
  double unbias = n / std::max(n - 1, 1.0);
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), "running", [&] {
    scalar_t *m = mean.mutable_data_ptr<scalar_t>(), *v = var.mutable_data_ptr<scalar_t>();
    for (I c = 0; c < C; ++c) {
      m[c] += scalar_t(unit.momentum) * (scalar_t(stats[c]) - m[c]);
      v[c] += scalar_t(unit.momentum) * (scalar_t(stats[C + c] * unbias) - v[c]);
    }
  });
}

constexpr I TILE = 256;  // pixels whose sum stays in the nearest cache

// Runs groups of equal geometry together.
template <typename T, typename F> void by_geometry(std::vector<std::pair<Geometry, Group<T>>>& all, F run) {
  std::vector<bool> done(all.size(), false);
  for (size_t i = 0; i < all.size(); ++i) {
    if (done[i]) continue;
    std::vector<Group<T>*> same;
    for (size_t j = i; j < all.size(); ++j)
      if (!done[j] && all[j].first == all[i].first) { same.push_back(&all[j].second); done[j] = true; }
    run(same, all[i].first);
  }
}

template <typename T>
Tensor node_forward_(at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params, at::TensorList buffers,
                     at::TensorList given_stats, const std::vector<Term>& terms, std::vector<Tensor>& saved) {
  size_t levels = 1;
  I rows = 0;
  for (auto& t : terms) { levels = std::max(levels, t.units.size()); rows += t.units.size(); }
  std::vector<std::vector<Tensor>> z(terms.size());      // of each stage of each term
  std::vector<std::vector<std::vector<double>>> stats(terms.size());
  for (size_t level = 0; level < levels; ++level) {
    std::vector<std::pair<Geometry, Group<T>>> groups;
    std::vector<std::pair<I, bool>> of;  // source of each group at the first level
    for (size_t i = 0; i < terms.size(); ++i) {
      auto& term = terms[i];
      if (term.kind != 0 || term.units.size() <= level) continue;
      const Unit& unit = term.units[level];
      const Tensor& x = level ? z[i][level - 1] : xs[term.index];
      Parts p = parts(unit, params);
      I cout = 0;
      for (auto& d : p.dense) cout += d.size(0);
      bool pack = cout == x.size(1);
      Geometry q = geometry(x, unit.stride);
      size_t at = groups.size();
      if (!level)
        for (size_t g = 0; g < groups.size(); ++g)
          if (of[g] == std::pair<I, bool>{term.index, pack} && groups[g].first == q) at = g;
      if (at == groups.size()) {
        groups.push_back({q, {}});
        of.push_back({term.index, pack});
        Group<T>& g = groups.back().second;
        g.x = x.const_data_ptr<T>();
        if (level) {
          Norm norm(&term.units[level - 1], stats[i][level - 1].data(), q.C, double(x.numel() / q.C), params);
          std::vector<double> a(q.C), b(q.C);
          for (I c = 0; c < q.C; ++c) { a[c] = norm.gamma[c] * norm.r[c]; b[c] = norm.beta[c] - norm.mean[c] * a[c]; }
          g.normed = true;
          g.scale = Channels<T>(a.data(), q.C);
          g.shift = Channels<T>(b.data(), q.C);
        }
      }
      I ho = (q.H + q.s - 1) / q.s, wo = (q.W + q.s - 1) / q.s;
      z[i].push_back(fresh(x, q.B, cout, ho, wo));
      stats[i].emplace_back(2 * cout);
      groups[at].second.jobs.push_back({Stage<T>(p.depth, p.dense, unit.kernel, unit.dilation, pack)});
      Job<T>& job = groups[at].second.jobs.back();
      job.z = z[i].back().template mutable_data_ptr<T>();
      job.stats = stats[i].back().data();
    }
    by_geometry<T>(groups, [](auto& same, const Geometry& q) { forward<T>(same, q); });
  }
  // The sum. What was given comes with its statistics.
  std::vector<Tensor> every;
  for (size_t i = 0; i < terms.size(); ++i) {
    every.push_back(terms[i].kind == 0 ? z[i].back() : terms[i].kind == 1 ? given[terms[i].index] : xs[terms[i].index]);
    if (terms[i].kind == 1 && !terms[i].units.empty()) {
      const Tensor& s = given_stats[terms[i].index];
      stats[i].emplace_back(s.const_data_ptr<double>(), s.const_data_ptr<double>() + s.numel());
    }
  }
  const I C = every[0].size(1), pixels = every[0].numel() / C, n = every.size();
  Tensor w64 = w.to(at::kDouble).contiguous();
  const double* weight = w64.const_data_ptr<double>();
  std::vector<Channels<T>> scale;
  std::vector<double> total(C, 0.0);
  std::vector<const T*> zp;
  size_t buffer = 0;
  for (I i = 0; i < n; ++i) {
    auto& units = terms[i].units;
    for (size_t u = 0; u < units.size(); ++u) {
      const Tensor& of = terms[i].kind == 0 ? z[i][u] : every[i];
      move_running(units[u], stats[i][u].data(), of.size(1), double(of.numel() / of.size(1)), buffers, buffer);
    }
    Norm norm(units.empty() ? nullptr : &units.back(), units.empty() ? nullptr : stats[i].back().data(), C, pixels, params);
    std::vector<double> a(C);
    for (I c = 0; c < C; ++c) {
      a[c] = weight[i] * norm.gamma[c] * norm.r[c];
      total[c] += weight[i] * norm.beta[c] - norm.mean[c] * a[c];
    }
    scale.emplace_back(a.data(), C);
    zp.push_back(every[i].const_data_ptr<T>());
  }
  Channels<T> shift(total.data(), C);
  Tensor out = at::empty_like(every[0]);
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, (pixels + TILE - 1) / TILE, 4, [&](I begin, I end) {
    for (I tile = begin; tile < end; ++tile) {
      const I from = tile * TILE * C, m = std::min(pixels, (tile + 1) * TILE) * C - from;
      T* o = to + from;
      const T* b = shift.v.data();
      each<T>(m, C, [&](I e, I c) { store(o + e, load(b + c)); }, [&](I e, I c) { o[e] = b[c]; });
      for (I i = 0; i < n; ++i) {
        const T *v = zp[i] + from, *a = scale[i].v.data();
        each<T>(m, C, [&](I e, I c) { store(o + e, load(o + e) + load(v + e) * load(a + c)); },
                [&](I e, I c) { o[e] += v[e] * a[c]; });
      }
    }
  });
  for (auto& of : z)
    for (auto& t : of) saved.push_back(t);
  I size = 0;
  for (auto& of : stats)
    for (auto& s : of) size += s.size();
  Tensor all = at::empty({size}, at::kDouble);
  double* p = all.mutable_data_ptr<double>();
  for (auto& of : stats)
    for (auto& s : of) p = std::copy(s.begin(), s.end(), p);
  saved.push_back(all);
  return out;
}

// With g the gradient of a normalised z: from sums of g and g z, those of g ẑ, and (a, b, c) of a g + b z + c, weight w in front.
struct Back { std::vector<double> ghat, a, b, c; };

Back back(const Norm& norm, double w, const double* sg, const double* sgz, bool bare) {
  size_t C = norm.mean.size();
  Back out{std::vector<double>(C), std::vector<double>(C), std::vector<double>(C, 0.0), std::vector<double>(C, 0.0)};
  for (size_t c = 0; c < C; ++c) {
    out.ghat[c] = (sgz[c] - norm.mean[c] * sg[c]) * norm.r[c];
    out.a[c] = w * norm.gamma[c] * norm.r[c];
    if (bare) continue;
    out.b[c] = -out.a[c] * norm.r[c] * out.ghat[c] / norm.count;
    out.c[c] = -out.a[c] * sg[c] / norm.count - out.b[c] * norm.mean[c];
  }
  return out;
}

Tensor channels_of(const std::vector<double>& v, double by, const Tensor& like) {
  Tensor t = at::empty({(I)v.size()}, at::kDouble);
  for (size_t c = 0; c < v.size(); ++c) t.mutable_data_ptr<double>()[c] = v[c] * by;
  return t.to(like.scalar_type());
}

template <typename T>
void node_backward_(const Tensor& g, at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params,
                    const std::vector<Term>& terms, at::TensorList saved, at::IntArrayRef need_x, at::IntArrayRef need_given,
                    bool need_w, Tensor& gw, std::vector<Tensor>& gxs, std::vector<Tensor>& ggiven, std::vector<Tensor>& gparams) {
  const I C = g.size(1), pixels = g.numel() / C, n = terms.size(), threads = at::get_num_threads();
  const T* gp = g.const_data_ptr<T>();
  std::vector<std::vector<Tensor>> z(n);
  std::vector<std::vector<const double*>> stats(n);
  const double* sp = saved.back().const_data_ptr<double>();
  size_t next = 0, levels = 1;
  for (I i = 0; i < n; ++i) {
    levels = std::max(levels, terms[i].units.size());
    for (size_t u = 0; u < terms[i].units.size(); ++u) {
      I c = C;
      if (terms[i].kind == 0) { z[i].push_back(saved[next++]); c = z[i].back().size(1); }
      stats[i].push_back(sp);
      sp += 2 * c;
    }
    if (terms[i].kind == 1) z[i].push_back(given[terms[i].index]);
    if (terms[i].kind == 2) z[i].push_back(xs[terms[i].index]);
  }
  // Σ g and every Σ g z_i
  std::vector<double> partial(threads * (n + 1) * C, 0.0), sums_(  (n + 1) * C, 0.0);
  at::parallel_for(0, (pixels + TILE - 1) / TILE, 4, [&](I begin, I end) {
    double* mine = partial.data() + at::get_thread_num() * (n + 1) * C;
    std::vector<double> ignored(C);
    std::vector<T> t;
    for (I tile = begin; tile < end; ++tile) {
      const I from = tile * TILE, m = std::min(pixels, from + TILE) - from;
      for (I i = 0; i < n; ++i)
        sums(i ? ignored.data() : mine + n * C, mine + i * C, gp + from * C, z[i].back().template const_data_ptr<T>() + from * C, m, C, t);
    }
  });
  for (I k = 0; k < threads; ++k)
    for (I e = 0; e < (n + 1) * C; ++e) sums_[e] += partial[k * (n + 1) * C + e];
  const double* sg = sums_.data() + n * C;
  Tensor w64 = w.to(at::kDouble).contiguous(), gw64 = at::zeros({n}, at::kDouble);
  const double* weight = w64.const_data_ptr<double>();
  double* gwp = gw64.mutable_data_ptr<double>();
  // What goes back through each term's newest normalisation, and the gradient that stands behind it.
  std::vector<Back> now(n);
  std::vector<Tensor> grad(n, g);
  std::vector<std::vector<double>> moments(n);
  gparams.assign(params.size(), Tensor());
  auto put_affine = [&](const Unit& unit, const Back& b, const double* s, double by) {
    if (!unit.affine || !need_w) return;
    I at = unit.params + (unit.kernel < 0 ? 0 : (unit.kernel == 0 ? 2 : 1) + unit.depthwise);
    gparams[at] = channels_of(b.ghat, by, params[at]);
    gparams[at + 1] = channels_of(std::vector<double>(s, s + b.ghat.size()), by, params[at]);
  };
  for (I i = 0; i < n; ++i) {
    auto& units = terms[i].units;
    Norm norm(units.empty() ? nullptr : &units.back(), units.empty() ? nullptr : stats[i].back(), C, pixels, params);
    now[i] = back(norm, weight[i], sg, sums_.data() + i * C, units.empty());
    for (I c = 0; c < C; ++c) gwp[i] += norm.gamma[c] * now[i].ghat[c] + norm.beta[c] * sg[c];
    if (!units.empty()) put_affine(units.back(), now[i], sg, weight[i]);
  }
  gw = gw64.to(w.scalar_type());
  gxs.assign(xs.size(), Tensor());
  for (size_t level = levels; level-- > 0;) {
    std::vector<std::pair<Geometry, Group<T>>> groups;
    std::vector<std::pair<I, bool>> of;
    std::vector<std::pair<I, std::pair<size_t, size_t>>> where;  // term -> (group, job)
    std::vector<Tensor> keep;
    for (I i = 0; i < n; ++i) {
      auto& term = terms[i];
      if (term.kind != 0 || term.units.size() <= level) continue;
      if (!level && !need_w && !need_x[term.index]) continue;
      const Unit& unit = term.units[level];
      const Tensor& x = level ? z[i][level - 1] : xs[term.index];
      Parts p = parts(unit, params);
      I cout = 0;
      for (auto& d : p.dense) cout += d.size(0);
      bool pack = cout == x.size(1);
      Geometry q = geometry(x, unit.stride);
      size_t at = groups.size();
      if (!level)
        for (size_t k = 0; k < groups.size(); ++k)
          if (of[k] == std::pair<I, bool>{term.index, pack} && groups[k].first == q) at = k;
      if (at == groups.size()) {
        groups.push_back({q, {}});
        of.push_back({term.index, pack});
        Group<T>& group = groups.back().second;
        group.x = x.const_data_ptr<T>();
        Tensor gx;
        if (level) {
          Norm norm(&term.units[level - 1], stats[i][level - 1], q.C, double(x.numel() / q.C), params);
          std::vector<double> a(q.C), b(q.C);
          for (I c = 0; c < q.C; ++c) { a[c] = norm.gamma[c] * norm.r[c]; b[c] = norm.beta[c] - norm.mean[c] * a[c]; }
          group.normed = true;
          group.scale = Channels<T>(a.data(), q.C);
          group.shift = Channels<T>(b.data(), q.C);
          moments[i].assign(2 * q.C, 0.0);
          group.moments = moments[i].data();
          gx = at::zeros_like(x);
        } else {
          gx = gxs[term.index].defined() ? gxs[term.index] : at::zeros_like(x);
          gxs[term.index] = gx;
        }
        keep.push_back(gx);
        group.gx = gx.mutable_data_ptr<T>();
      }
      groups[at].second.jobs.push_back({Stage<T>(p.depth, p.dense, unit.kernel, unit.dilation, pack)});
      Job<T>& job = groups[at].second.jobs.back();
      job.g = grad[i].template const_data_ptr<T>();
      job.zin = z[i][level].template const_data_ptr<T>();
      job.a = Channels<T>(now[i].a.data(), cout);
      job.b = Channels<T>(now[i].b.data(), cout);
      job.c = Channels<T>(now[i].c.data(), cout);
      where.push_back({i, {at, groups[at].second.jobs.size() - 1}});
    }
    by_geometry<T>(groups, [&](auto& same, const Geometry& q) {
      std::vector<T> sum;
      backward<T>(same, q, need_w, sum);
      if (!need_w) return;
      for (auto& [i, at] : where) {
        Group<T>& group = groups[at.first].second;
        if (std::find(same.begin(), same.end(), &group) == same.end()) continue;
        Job<T>& job = group.jobs[at.second];
        const Unit& unit = terms[i].units[level];
        std::vector<Tensor> found;
        job.stage.unpack(sum.data() + job.at, unit.depthwise, parts(unit, params).dense, found);
        for (size_t k = 0; k < found.size(); ++k) gparams[unit.params + k] = found[k];
      }
    });
    if (level)
      for (auto& [i, at] : where) {
        const Unit& unit = terms[i].units[level - 1];
        const Tensor& x = z[i][level - 1];
        Norm norm(&unit, stats[i][level - 1], x.size(1), double(x.numel() / x.size(1)), params);
        const double* m = moments[i].data();
        now[i] = back(norm, 1.0, m, m + x.size(1), false);
        grad[i] = keep[at.first];
        put_affine(unit, now[i], m, 1.0);
      }
  }
  // Tensors that were given, and sources that stand for themselves
  ggiven.assign(given.size(), Tensor());
  for (I i = 0; i < n; ++i) {
    if (terms[i].kind == 0) continue;
    bool itself = terms[i].kind == 2;
    I index = terms[i].index;
    if (!(itself ? need_x[index] : need_given[index])) continue;
    Tensor& target = itself ? gxs[index] : ggiven[index];
    bool first = !target.defined();
    if (first) target = at::empty_like(g);
    T* to = target.mutable_data_ptr<T>();
    Channels<T> a(now[i].a.data(), C), b(now[i].b.data(), C), c(now[i].c.data(), C);
    const T *pa = a.v.data(), *pb = b.v.data(), *pc = c.v.data(), *zp = z[i].back().template const_data_ptr<T>();
    const bool bare = terms[i].units.empty();
    at::parallel_for(0, (pixels + TILE - 1) / TILE, 8, [&](I begin, I end) {
      const I from = begin * TILE * C, m = std::min(pixels, end * TILE) * C - from;
      const T *gi = gp + from, *zi = zp + from;
      T* o = to + from;
      if (bare)
        each<T>(m, C, [&](I e, I k) { V<T> v = load(pa + k) * load(gi + e); store(o + e, first ? v : load(o + e) + v); },
                [&](I e, I k) { T v = pa[k] * gi[e]; o[e] = first ? v : o[e] + v; });
      else
        each<T>(m, C,
                [&](I e, I k) {
                  V<T> v = load(pa + k) * load(gi + e) + load(pb + k) * load(zi + e) + load(pc + k);
                  store(o + e, first ? v : load(o + e) + v);
                },
                [&](I e, I k) { T v = pa[k] * gi[e] + pb[k] * zi[e] + pc[k]; o[e] = first ? v : o[e] + v; });
    });
  }
}

std::tuple<Tensor, std::vector<Tensor>> node_forward(at::TensorList xs, at::TensorList given, const Tensor& w, at::TensorList params,
    at::TensorList buffers, at::TensorList given_stats, at::IntArrayRef code, at::ArrayRef<double> numbers) {
  std::vector<Tensor> saved, x, y;
  for (auto& t : xs) x.push_back(last(t));
  for (auto& t : given) y.push_back(last(t));
  Tensor out;
  AT_DISPATCH_FLOATING_TYPES((x.empty() ? y[0] : x[0]).scalar_type(), "node_forward", [&] {
    out = node_forward_<scalar_t>(x, y, w, params, buffers, given_stats, parse(code, numbers), saved);
  });
  return {out, saved};
}

std::tuple<Tensor, std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>> node_backward(const Tensor& grad, at::TensorList xs,
    at::TensorList given, const Tensor& w, at::TensorList params, at::IntArrayRef code, at::ArrayRef<double> numbers,
    at::TensorList saved, at::IntArrayRef need_x, at::IntArrayRef need_given, bool need_w) {
  Tensor g = last(grad), gw;
  std::vector<Tensor> x, y, gxs, ggiven, gparams;
  for (auto& t : xs) x.push_back(last(t));
  for (auto& t : given) y.push_back(last(t));
  AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "node_backward", [&] {
    node_backward_<scalar_t>(g, x, y, w, params, parse(code, numbers), saved, need_x, need_given, need_w, gw, gxs, ggiven, gparams);
  });
  for (auto* list : {&gxs, &ggiven, &gparams})
    for (auto& t : *list) if (!t.defined()) t = at::empty({0}, g.options());
  return {gw, gxs, ggiven, gparams};
}

// --- pools ---------------------------------------------------------------------------------------------------------------

// 3 x 3, padding 1. (max, which tap of the window it is, average over what is image) of x, each with its statistics (2, 2, C).
std::tuple<Tensor, Tensor, Tensor, Tensor> pools_forward(const Tensor& input, I stride, bool want_max, bool want_mean) {
  Tensor x = last(input);
  I B = x.size(0), C = x.size(1), H = x.size(2), W = x.size(3), threads = at::get_num_threads();
  Frame f(H, W, stride, 1, C, 0);
  Conv conv(3, 1);
  Tensor top = fresh(x, want_max ? B : 0, C, f.Ho, f.Wo), mean = fresh(x, want_mean ? B : 0, C, f.Ho, f.Wo);
  Tensor which = at::empty({want_max ? B : 0, C, f.Ho, f.Wo}, x.options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
  Tensor partial = at::zeros({threads, 2, 2, C}, x.options().dtype(at::kDouble));
  double* part = partial.mutable_data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pools_forward", [&] {
    using T = scalar_t;
    using Index = std::conditional_t<std::is_same_v<T, float>, int32_t, int64_t>;
    const T* xp = x.const_data_ptr<T>();
    T *tp = top.mutable_data_ptr<T>(), *mp = mean.mutable_data_ptr<T>();
    uint8_t* wp = which.mutable_data_ptr<uint8_t>();
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      double* mine = part + at::get_thread_num() * 4 * C;
      const I n = f.Wo * C;
      std::vector<T> P(f.size(), -std::numeric_limits<T>::infinity()), Q(f.size(), T(0)), scratch;
      std::vector<Index> tap(n);
      for (I b = begin; b < end; ++b) {
        const T* xi = xp + b * C * H * W;
        if (want_max) copy<T>(P.data(), f, xi, C);
        if (want_mean) copy<T>(Q.data(), f, xi, C);
        for (I y = 0; y < f.Ho; ++y) {
          I row = (b * f.Ho + y) * n;
          if (want_max) {
            T* best = tp + row;
            const T* src = P.data() + y * f.Wq * C;
            const T* first = src + f.tap(conv.dy(0), conv.dx(0));
            for (I e = 0; e < n; ++e) { best[e] = first[e]; tap[e] = 0; }
            for (I t = 1; t < 9; ++t) {
              const T* v = src + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) {
                bool more = v[e] > best[e] || v[e] != v[e];  // the first of equals, as in torch; NaN wins
                best[e] = more ? v[e] : best[e];
                tap[e] = more ? Index(t) : tap[e];
              }
            }
            for (I e = 0; e < n; ++e) wp[row + e] = uint8_t(tap[e]);
          }
          if (want_mean) {
            T* sum = mp + row;
            const T* src = Q.data() + y * f.Wq * C;
            for (I e = 0; e < n; ++e) sum[e] = 0;
            for (I t = 0; t < 9; ++t) {
              const T* v = src + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) sum[e] += v[e];
            }
            I rows = std::min(H, y * stride + 2) - std::max<I>(0, y * stride - 1);
            for (I px = 0; px < f.Wo; ++px) {
              I columns = std::min(W, px * stride + 2) - std::max<I>(0, px * stride - 1);
              T count = T(rows * columns);
              for (I c = 0; c < C; ++c) sum[px * C + c] /= count;
            }
          }
        }
        I image = f.Ho * n;
        if (want_max) sums(mine, mine + C, tp + b * image, tp + b * image, f.Ho * f.Wo, C, scratch);
        if (want_mean) sums(mine + 2 * C, mine + 3 * C, mp + b * image, mp + b * image, f.Ho * f.Wo, C, scratch);
      }
    });
  });
  Tensor total = partial.sum(0).div_(double(B) * f.Ho * f.Wo);
  Tensor m = total.select(1, 0);
  total.select(1, 1).sub_(m * m).clamp_min_(0);
  return {top, which, mean, total};
}

// Gradient of x, from those of the maximum and of the average, either of which may be missing.
Tensor pools_backward(const std::optional<Tensor>& of_max, const Tensor& which, const std::optional<Tensor>& of_mean, I B, I C, I H,
                      I W, I stride) {
  Frame f(H, W, stride, 1, C, 0);
  Conv conv(3, 1);
  Tensor gm = of_max ? last(*of_max) : Tensor(), ga = of_mean ? last(*of_mean) : Tensor();
  const Tensor& like = of_max ? gm : ga;
  Tensor gx = at::empty({B, C, H, W}, like.options(), at::MemoryFormat::ChannelsLast);
  AT_DISPATCH_FLOATING_TYPES(like.scalar_type(), "pools_backward", [&] {
    using T = scalar_t;
    const T *gmp = of_max ? gm.const_data_ptr<T>() : nullptr, *gap = of_mean ? ga.const_data_ptr<T>() : nullptr;
    const uint8_t* wp = of_max ? which.const_data_ptr<uint8_t>() : nullptr;
    T* to = gx.mutable_data_ptr<T>();
    at::parallel_for(0, B, 1, [&](I begin, I end) {
      const I n = f.Wo * C, image = f.Ho * n;
      std::vector<T> GP(f.size());
      std::vector<T> row(n);
      for (I b = begin; b < end; ++b) {
        std::fill(GP.begin(), GP.end(), T(0));
        for (I y = 0; y < f.Ho; ++y) {
          T* base = GP.data() + y * f.Wq * C;
          if (gmp) {
            const T* g = gmp + b * image + y * n;
            const uint8_t* w = wp + b * image + y * n;
            for (I t = 0; t < 9; ++t) {
              T* d = base + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) d[e] += w[e] == t ? g[e] : T(0);
            }
          }
          if (gap) {
            const T* g = gap + b * image + y * n;
            I rows = std::min(H, y * stride + 2) - std::max<I>(0, y * stride - 1);
            for (I px = 0; px < f.Wo; ++px) {
              I columns = std::min(W, px * stride + 2) - std::max<I>(0, px * stride - 1);
              T count = T(rows * columns);
              for (I c = 0; c < C; ++c) row[px * C + c] = g[px * C + c] / count;
            }
            for (I t = 0; t < 9; ++t) {
              T* d = base + f.tap(conv.dy(t), conv.dx(t));
              for (I e = 0; e < n; ++e) d[e] += row[e];
            }
          }
        }
        for (I y = 0; y < H; ++y)
          for (I px = 0; px < W; ++px) {
            const T* src = GP.data() + f.at(y, px);
            T* d = to + ((b * H + y) * W + px) * C;
            for (I c = 0; c < C; ++c) d[c] = src[c];
          }
      }
    });
  });
  return gx;
}

}  // namespace

TORCH_LIBRARY(oche_native, m) {
  m.def("node_forward(Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, Tensor[] buffers, Tensor[] given_stats, int[] code,"
        " float[] numbers) -> (Tensor, Tensor[])");
  m.def("node_backward(Tensor g, Tensor[] xs, Tensor[] given, Tensor w, Tensor[] params, int[] code, float[] numbers,"
        " Tensor[] saved, int[] need_x, int[] need_given, bool need_w) -> (Tensor, Tensor[], Tensor[], Tensor[])");
  m.def("pools_forward(Tensor x, int stride, bool want_max, bool want_mean) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("pools_backward(Tensor? of_max, Tensor which, Tensor? of_mean, int b, int c, int h, int w, int stride) -> Tensor");
}

// Composite: lists that may be empty do not tell torch which device is meant.
TORCH_LIBRARY_IMPL(oche_native, CompositeExplicitAutograd, m) {
  m.impl("node_forward", node_forward);
  m.impl("node_backward", node_backward);
  m.impl("pools_forward", pools_forward);
  m.impl("pools_backward", pools_backward);
}
