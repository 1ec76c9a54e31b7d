/* The table of all operators, and what the families share. */
#include "tensor/op.h"

#include <assert.h>
#include <string.h>
#include "tensor/graph_impl.h"
#include "tensor/ops/families.h"

static const struct op *const table[] = {
    &op_matmul,
    &op_dense,
    &op_matmul_grad_x,
    &op_matmul_grad_relu,
    &op_matmul_grad_w,
    &op_conv,
    &op_conv_bias,
    &op_conv_grad_x,
    &op_conv_grad_w,
    &op_max_pool,
    &op_max_pool_grad,
    &op_average_pool,
    &op_average_pool_grad,
    &op_batch_norm,
    &op_batch_norm_infer,
    &op_batch_norm_grad,
    &op_layer_norm,
    &op_layer_norm_grad,
    &op_gather,
    &op_gather_grad,
    &op_transpose,
    &op_concat,
    &op_slice,
    &op_slice_grad,
    &op_rnn,
    &op_gru,
    &op_lstm,
    &op_recurrent_grad,
    &op_attention,
    &op_attention_grad,
    &op_sequence_lengths,
    &op_sequence_mean,
    &op_sequence_mean_grad,
    &op_sequence_xent,
    &op_sequence_xent_grad,
    &op_add,
    &op_sub,
    &op_mul,
    &op_scale,
    &op_fill,
    &op_reduce_to,
    &op_loss_share,
    &op_identity,
    &op_relu,
    &op_leaky_relu,
    &op_tanh,
    &op_sigmoid,
    &op_gelu,
    &op_silu,
    &op_activate_grad,
    &op_softmax,
    &op_softmax_grad,
    &op_flatten,
    &op_reshape,
    &op_dropout,
    &op_mse,
    &op_mse_grad,
    &op_mae,
    &op_mae_grad,
    &op_huber,
    &op_huber_grad,
    &op_softmax_xent,
    &op_softmax_xent_grad,
    &op_sigmoid_xent,
    &op_sigmoid_xent_grad,
};

enum { N_OPS = sizeof table / sizeof table[0] };

const struct op *op_find(const char *name)
{
    for (int i = 0; i < N_OPS; i++)
        if (strcmp(table[i]->name, name) == 0) return table[i];
    return NULL;
}

int op_count(void)
{
    return N_OPS;
}

const struct op *op_at(int index)
{
    return table[index];
}

static union attr_value attr_or_default(const struct op_attr *spec, const struct attr *attrs, int n_attrs)
{
    for (int i = 0; i < n_attrs; i++)
        if (strcmp(attrs[i].name, spec->name) == 0) return attrs[i].value;
    return spec->fallback;
}

int grad_op(struct op_grad *d, const char *op, const int *inputs, int n, const struct attr *attrs,
            int n_attrs, int *value, struct err *e)
{
    const struct op *o = op_find(op);
    union attr_value list[NODE_MAX_ATTRS] = {0};
    assert(o);
    for (int i = 0; i < o->n_attrs; i++) list[i] = attr_or_default(&o->attrs[i], attrs, n_attrs);
    char name[GRAPH_NAME_MAX];
    graph__fresh_name(d->graph, name, "grad");
    int values[NODE_MAX_OUTPUTS];
    int rc = graph__op(d->graph, name, o, inputs, n, list, &d->node.rng_id, values, e);
    if (rc == 0) *value = values[0];
    return rc;
}

int op_refuse(const struct op_shapes *s, int input, struct err *e, const char *expected)
{
    char text[SHAPE_TEXT_MAX];
    return err_set(e, ERR_INVALID, s->node->name, "%s '%s': input %d is %s %s; expected %s",
                   s->node->op->name, s->node->name, input, dtype_name(s->in[input].dtype),
                   shape_text(text, &s->in[input].shape), expected);
}

int op_same_shape(struct op_shapes *s, struct err *e)
{
    for (int i = 0; i < s->node->n_inputs; i++) {
        if (s->in[i].dtype != DTYPE_F32) return op_refuse(s, i, e, "f32");
        if (!shape_equal(&s->in[i].shape, &s->in[0].shape)) return op_refuse(s, i, e, "the shape of input 0");
    }
    s->out[0] = s->in[0];
    return 0;
}

size_t ref_count(const struct ref_view *v)
{
    return shape_row_count(&v->shape);
}

void op_split_rows(const struct shape *s, size_t *rows, size_t *cols)
{
    *cols = s->rank > 0 ? (size_t)s->dim[s->rank - 1] : 1;
    *rows = *cols > 0 ? shape_row_count(s) / *cols : 0;
}

double op_flops_one(const struct op_shapes *s)
{
    return (double)shape_row_count(&s->out[0].shape);
}

double op_flops_none(const struct op_shapes *s)
{
    (void)s;
    return 0;
}

void op_gemm(const struct op_call *c, const struct gemm *g, const struct gemm_tail *tail)
{
    if (c->inference)
        c->backend->kernels->gemm(g, tail);
    else
        c->backend->gemm(c->backend, g, tail);
}
