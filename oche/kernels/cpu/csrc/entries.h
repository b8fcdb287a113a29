// The functions of the operators for one type of numbers. node.cpp and cell.cpp are compiled for each type by itself, side by side.
#pragma once

#include "vectors.h"

namespace oche {

using Tensors = std::vector<Tensor>;

template <typename T>
std::tuple<Tensor, Tensors> node_forward_of(const Tensors& xs, const Tensors& given, const Tensor& w, at::TensorList params,
    at::TensorList buffers, at::TensorList given_stats, at::IntArrayRef code, at::ArrayRef<double> numbers);

template <typename T>
std::tuple<Tensor, Tensors, Tensors, Tensors> node_backward_of(const Tensor& g, const Tensors& xs, const Tensors& given, const Tensor& w,
    at::TensorList params, at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, at::IntArrayRef need_x,
    at::IntArrayRef need_given, bool need_w);

template <typename T>
std::tuple<Tensor, Tensors> cell_forward_of(const Tensors& inputs, const Tensor& factors, at::TensorList params,
    at::TensorList buffers, at::IntArrayRef code, at::ArrayRef<double> numbers, bool bf16);

template <typename T>
std::tuple<Tensors, Tensors> cell_backward_of(const Tensor& g, const Tensors& inputs, const Tensor& factors, at::TensorList params,
    at::IntArrayRef code, at::ArrayRef<double> numbers, at::TensorList saved, bool bf16);

}  // namespace oche
