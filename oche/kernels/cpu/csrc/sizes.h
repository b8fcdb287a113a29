// How one image lies in the buffers here.
// Legend. C channels, H x W pixels in, Ho x Wo out, s stride. L numbers a vector. Cs: channels as stored in buffers, a multiple of L
// with zeros behind, or, in "packed" mode, C itself where G = L / C pixels fill one vector. P: the padded input of one image, cut
// into s x s phases, so that every tap of a strided convolution walks along a row.
#pragma once

#include "vectors.h"

namespace oche {

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

}  // namespace oche
