/* The entries that each family's file defines, for the table in tensor/op.c. */
#ifndef TENSOR_OPS_FAMILIES_H
#define TENSOR_OPS_FAMILIES_H

#include "tensor/op.h"

/* matmul.c */
extern const struct op op_matmul, op_dense, op_matmul_grad_x, op_matmul_grad_relu, op_matmul_grad_w;
/* conv.c */
extern const struct op op_conv, op_conv_bias, op_conv_grad_x, op_conv_grad_w;
/* pool.c */
extern const struct op op_max_pool, op_max_pool_grad, op_average_pool, op_average_pool_grad;
/* batch_norm.c, layer_norm.c */
extern const struct op op_batch_norm, op_batch_norm_infer, op_batch_norm_grad, op_layer_norm,
    op_layer_norm_grad;
/* gather.c */
extern const struct op op_gather, op_gather_grad;
/* arrange.c */
extern const struct op op_transpose, op_concat, op_slice, op_slice_grad;
/* recurrent.c, recurrent_grad.c */
extern const struct op op_rnn, op_gru, op_lstm, op_recurrent_grad;
/* attention.c, sequence.c */
extern const struct op op_attention, op_attention_grad, op_sequence_lengths, op_sequence_mean,
    op_sequence_mean_grad, op_sequence_xent, op_sequence_xent_grad;
/* arithmetic.c */
extern const struct op op_add, op_sub, op_mul, op_scale, op_fill, op_reduce_to, op_loss_share, op_identity;
/* activation.c */
extern const struct op op_relu, op_leaky_relu, op_tanh, op_sigmoid, op_gelu, op_silu, op_activate_grad;
/* softmax.c */
extern const struct op op_softmax, op_softmax_grad;
/* shape.c */
extern const struct op op_flatten, op_reshape;
/* dropout.c */
extern const struct op op_dropout;
/* loss.c, loss_entropy.c */
extern const struct op op_mse, op_mse_grad, op_mae, op_mae_grad, op_huber, op_huber_grad, op_softmax_xent,
    op_softmax_xent_grad, op_sigmoid_xent, op_sigmoid_xent_grad;

/* The gradient `value` goes on into a relu whose output is y. Where a MaxPoolGrad with y as its x makes it,
 * that node drops what the relu would, and the relu's own gradient is not needed: true. */
bool pool_gate_gradient(struct graph *g, int value, int y);

/* ActivateGrad's attribute "act" is an enum act; the slope of leaky_relu is "alpha". */
bool activation_of(const struct op *op, enum act *act);
bool activation_grad_from_output(enum act act, double alpha); /* the derivative can be had from y alone */
double activation_reference(enum act act, double alpha, double x);
void softmax_reference(const double *x, double *y, size_t cols); /* one row */

#endif
