// The layout of one image in the buffers.
//
// C channels, H x W input pixels, Ho x Wo output pixels, s stride, L numbers per vector. Cs: channels as stored, C padded with
// zeros to a multiple of L; in "packed" mode Cs = C, and G = L / C pixels fill one vector. P: the padded input of one image, split
// into s x s phases, so that every tap of a strided convolution reads consecutive pixels.
#pragma once

#include "vectors.h"

namespace oche {

struct Shape {  // of a pixel
  I C, Cs, G;   // channels; channels as stored; pixels per vector (1: not packed)
  I vectors;    // vectors per pixel (1 if packed)
  Shape() = default;
  Shape(I c, bool pack, int lanes) : C(c) {
    bool packed = CAN_PACK && pack && c < lanes && lanes % c == 0;
    Cs = packed ? c : up(c, lanes);
    G = packed ? lanes / c : 1;
    vectors = packed ? 1 : Cs / lanes;
  }
};

// The layout of P: s * s phases of Hq x Wq pixels; the image has a margin of m pixels.
struct Frame {
  I H, W, Ho, Wo, s, m, Hq, Wq, Cs;
  Frame(I h, I w, I stride, I margin, I cs, I slack)
      : H(h), W(w), Ho((h + stride - 1) / stride), Wo((w + stride - 1) / stride), s(stride), m(margin),
        Hq((h + 2 * margin + stride - 1) / stride), Wq((w + 2 * margin + stride - 1) / stride + slack), Cs(cs) {}
  I size() const { return s * s * Hq * Wq * Cs; }
  I at(I y, I x) const {  // offset of pixel (y, x) of the image
    I py = y + m, px = x + m;
    return (((py % s) * s + px % s) * Hq + py / s) * Wq * Cs + px / s * Cs;
  }
  I tap(I dy, I dx) const {  // offset from an output pixel (its row times Wq * Cs) to the input pixel (dy, dx) away
    I ay = m + dy, ax = m + dx;
    return (((ay % s) * s + ax % s) * Hq + ay / s) * Wq * Cs + ax / s * Cs;
  }
};

// The taps of a convolution. Kernel 0 means the two taps (0, 0) and (1, 1) of a factorised reduction.
struct Conv {
  I k, dilation, pad, taps;
  Conv(I kernel, I d) : k(kernel), dilation(d), pad(kernel ? d * (kernel - 1) / 2 : 0), taps(kernel ? kernel * kernel : 2) {}
  I dy(I t) const { return k ? t / k * dilation - pad : t; }
  I dx(I t) const { return k ? t % k * dilation - pad : t; }
  I reach() const { return k ? pad : 1; }
};

}  // namespace oche
