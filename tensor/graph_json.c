/* A graph as JSON. Reading goes through the builders, so that a hostile tree meets the same checks as a
 * careless caller. */
#include "tensor/graph_impl.h"

#include <math.h>
#include <string.h>
#include "tensor/op.h"

static const char format[] = "tenor.graph.1";
enum { MAX_ITEMS = GRAPH_MAX_NODES };

static void write_shape(struct json_writer *w, const char *name, const struct shape *s)
{
    jw_name(w, name);
    jw_arr(w);
    for (int i = 0; i < s->rank; i++) jw_int(w, s->dim[i]);
    jw_arr_end(w);
}

static void write_inputs(const struct graph *g, struct json_writer *w)
{
    jw_name(w, "inputs");
    jw_arr(w);
    for (int i = 0; i < g->n_inputs; i++) {
        const struct value *v = &g->value[g->input[i]];
        jw_obj(w);
        jw_kstr(w, "name", v->name);
        jw_kstr(w, "dtype", dtype_name(v->dtype));
        write_shape(w, "shape", &v->shape);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void write_params(const struct graph *g, struct json_writer *w)
{
    jw_name(w, "params");
    jw_arr(w);
    for (int i = 0; i < g->n_params; i++) {
        const struct param *p = &g->param[i];
        jw_obj(w);
        jw_kstr(w, "name", g->value[p->value].name);
        write_shape(w, "shape", &p->spec.shape);
        jw_kstr(w, "init", init_name(p->spec.init.kind));
        jw_knum(w, "init_value", p->spec.init.a);
        jw_kbool(w, "trainable", p->spec.trainable);
        jw_kbool(w, "decay", p->spec.decay);
        jw_knum(w, "l2", p->spec.l2);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

static void write_attrs(const struct node *n, struct json_writer *w)
{
    jw_name(w, "attrs");
    jw_obj(w);
    for (int i = 0; i < n->op->n_attrs; i++) {
        const struct op_attr *a = &n->op->attrs[i];
        if (a->type == ATTR_INT)
            jw_kint(w, a->name, n->attr[i].i);
        else if (a->type == ATTR_FLOAT)
            jw_knum(w, a->name, n->attr[i].f);
        else
            write_shape(w, a->name, &n->attr[i].ints);
    }
    jw_obj_end(w);
}

static void write_nodes(const struct graph *g, struct json_writer *w)
{
    jw_name(w, "nodes");
    jw_arr(w);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->node[i];
        jw_obj(w);
        jw_kstr(w, "name", n->name);
        jw_kstr(w, "op", n->op->name);
        jw_name(w, "inputs");
        jw_arr(w);
        for (int j = 0; j < n->n_inputs; j++) jw_str(w, g->value[n->input[j]].name);
        jw_arr_end(w);
        write_attrs(n, w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

void graph_to_json(const struct graph *g, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "format", format);
    write_inputs(g, w);
    write_params(g, w);
    write_nodes(g, w);
    jw_name(w, "outputs");
    jw_arr(w);
    for (int i = 0; i < g->n_outputs; i++) {
        jw_obj(w);
        jw_kstr(w, "name", g->output[i].name);
        jw_kstr(w, "value", g->value[g->output[i].value].name);
        jw_obj_end(w);
    }
    jw_arr_end(w);
    jw_kstr(w, "loss", g->loss < 0 ? NULL : g->value[g->loss].name);
    jw_obj_end(w);
}

/* ---- reading ---- */

static int take_ints(const cJSON *array, const char *path, struct shape *out, struct err *e)
{
    int n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        double v = cJSON_IsNumber(item) ? item->valuedouble : 0.5;
        if (n == TENSOR_MAX_RANK || !(fabs(v) <= 2147483648.0) || v != (double)(int64_t)v)
            return err_set(e, ERR_INVALID, path, "%s: expected at most %d whole numbers", path,
                           TENSOR_MAX_RANK);
        out->dim[n++] = (int64_t)v;
    }
    out->rank = n;
    return 0;
}

static int take_shape(struct json_obj *o, const char *name, struct shape *out, struct err *e)
{
    const cJSON *array;
    char path[JSON_PATH_MAX];
    int rc = json_take_array(o, name, 0, TENSOR_MAX_RANK, &array, e);
    json_path_name(path, o->path, name);
    return rc ? rc : take_ints(array, path, out, e);
}

static int read_input(struct graph *g, struct json_obj *o, struct err *e)
{
    const char *name, *type;
    struct shape shape;
    int rc, value, dtype;
    if ((rc = json_take_str(o, "name", 1, GRAPH_NAME_MAX - 1, &name, e)) ||
        (rc = json_take_str(o, "dtype", 1, 8, &type, e)) || (rc = take_shape(o, "shape", &shape, e)) ||
        (rc = json_obj_close(o, e)))
        return rc;
    if ((dtype = dtype_of(type)) < 0)
        return err_set(e, ERR_INVALID, "dtype", "unknown dtype '%s'; expected f32 or i32", type);
    return graph_input(g, name, (enum dtype)dtype, &shape, &value, e);
}

static int read_param(struct graph *g, struct json_obj *o, struct err *e)
{
    struct param_spec spec = {.trainable = true};
    const char *name, *init = "zeros";
    int rc, value, kind;
    if ((rc = json_take_str(o, "name", 1, GRAPH_NAME_MAX - 1, &name, e)) ||
        (rc = take_shape(o, "shape", &spec.shape, e)) || (rc = json_opt_str(o, "init", 1, 32, &init, e)) ||
        (rc = json_opt_num(o, "init_value", -1e30, 1e30, &spec.init.a, e)) ||
        (rc = json_opt_bool(o, "trainable", &spec.trainable, e)) ||
        (rc = json_opt_bool(o, "decay", &spec.decay, e)) ||
        (rc = json_opt_num(o, "l2", 0, 1e30, &spec.l2, e)) || (rc = json_obj_close(o, e)))
        return rc;
    if ((kind = init_of(init)) < 0) return err_set(e, ERR_INVALID, "init", "unknown initialiser '%s'", init);
    spec.init.kind = (enum init_kind)kind;
    return graph_param(g, name, &spec, &value, e);
}

static int read_attr(const struct op_attr *spec, const cJSON *node, struct attr *out, struct err *e)
{
    out->name = spec->name;
    if (spec->type == ATTR_INTS) {
        if (!cJSON_IsArray(node))
            return err_set(e, ERR_INVALID, spec->name, "%s: expected a list of numbers", spec->name);
        return take_ints(node, spec->name, &out->value.ints, e);
    }
    double v = cJSON_IsNumber(node) ? node->valuedouble : 0;
    if (!cJSON_IsNumber(node) || !(v >= spec->min && v <= spec->max) ||
        (spec->type == ATTR_INT && v != (double)(int64_t)v))
        return err_set(e, ERR_INVALID, spec->name, "%s: expected a number from %g to %g", spec->name,
                       spec->min, spec->max);
    if (spec->type == ATTR_INT)
        out->value.i = (int64_t)v;
    else
        out->value.f = v;
    return 0;
}

static int read_attrs(struct json_obj *o, const struct op *op, struct attr *attrs, int *n, struct err *e)
{
    const cJSON *node = NULL, *item;
    char path[JSON_PATH_MAX];
    struct json_obj a;
    int rc = json_opt_object(o, "attrs", &node, e);
    *n = 0;
    if (rc || !node) return rc;
    json_path_name(path, o->path, "attrs");
    if ((rc = json_obj_open(&a, node, path, e))) return rc;
    for (int i = 0; i < op->n_attrs; i++) {
        item = json_obj_find(&a, op->attrs[i].name);
        if (item && read_attr(&op->attrs[i], item, &attrs[(*n)++], e)) return err_under(e, path);
    }
    return json_obj_close(&a, e);
}

static int read_node_inputs(const struct graph *g, const cJSON *array, const char *path, int *inputs, int *n,
                            struct err *e)
{
    const cJSON *item;
    *n = 0;
    cJSON_ArrayForEach(item, array)
    {
        char here[JSON_PATH_MAX];
        json_path_index(here, path, (size_t)*n);
        int id = cJSON_IsString(item) ? graph_value_find(g, item->valuestring) : -1;
        if (id < 0)
            return err_set(e, ERR_INVALID, here,
                           "%s: expected the name of a value that stands before this node", here);
        inputs[(*n)++] = id;
    }
    return 0;
}

static int read_node(struct graph *g, struct json_obj *o, struct err *e)
{
    const char *name, *op_name;
    const cJSON *array;
    char path[JSON_PATH_MAX];
    struct attr attrs[NODE_MAX_ATTRS];
    int inputs[NODE_MAX_INPUTS], values[NODE_MAX_OUTPUTS], n_inputs, n_attrs, rc;
    if ((rc = json_take_str(o, "name", 1, GRAPH_NAME_MAX - 1, &name, e)) ||
        (rc = json_take_str(o, "op", 1, 64, &op_name, e)) ||
        (rc = json_take_array(o, "inputs", 0, NODE_MAX_INPUTS, &array, e)))
        return rc;
    const struct op *op = op_find(op_name);
    if (!op || op->internal) return err_set(e, ERR_INVALID, "op", "there is no operator '%s'", op_name);
    json_path_name(path, o->path, "inputs");
    if ((rc = read_node_inputs(g, array, path, inputs, &n_inputs, e)) ||
        (rc = read_attrs(o, op, attrs, &n_attrs, e)) || (rc = json_obj_close(o, e)))
        return rc;
    return graph_op(g, name, op_name, inputs, n_inputs, attrs, n_attrs, values, e);
}

static int read_output(struct graph *g, struct json_obj *o, struct err *e)
{
    const char *name, *value;
    int rc;
    if ((rc = json_take_str(o, "name", 1, GRAPH_NAME_MAX - 1, &name, e)) ||
        (rc = json_take_str(o, "value", 1, GRAPH_NAME_MAX - 1, &value, e)) || (rc = json_obj_close(o, e)))
        return rc;
    int id = graph_value_find(g, value);
    if (id < 0) return err_set(e, ERR_INVALID, "value", "output '%s': there is no value '%s'", name, value);
    return graph_output(g, name, id, e);
}

/* One list of objects, each read by `read`. An error's field becomes the path of the item and what the reader
 * named in it. */
static int read_list(struct graph *g, struct json_obj *top, const char *name,
                     int (*read)(struct graph *, struct json_obj *, struct err *), struct err *e)
{
    const cJSON *array, *item;
    char list[JSON_PATH_MAX], path[JSON_PATH_MAX];
    struct err own;
    size_t i = 0;
    int rc = json_take_array(top, name, 0, MAX_ITEMS, &array, e);
    if (rc) return rc;
    if (!e) e = &own;
    json_path_name(list, top->path, name);
    cJSON_ArrayForEach(item, array)
    {
        struct json_obj o;
        json_path_index(path, list, i++);
        if ((rc = json_obj_open(&o, item, path, e))) return rc;
        err_clear(e);
        if ((rc = read(g, &o, e)))
            return strncmp(e->field, path, strlen(path)) == 0 ? rc : err_under(e, path);
    }
    return 0;
}

static int read_all(struct graph *g, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    const char *text, *loss = NULL;
    char where[JSON_PATH_MAX];
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = json_take_str(&o, "format", 1, 64, &text, e)))
        return rc;
    json_path_name(where, path, "format");
    if (strcmp(text, format) != 0)
        return err_set(e, ERR_UNSUPPORTED, where, "%s is '%s'; expected '%s'", where, text, format);
    if ((rc = read_list(g, &o, "inputs", read_input, e)) ||
        (rc = read_list(g, &o, "params", read_param, e)) || (rc = read_list(g, &o, "nodes", read_node, e)) ||
        (rc = read_list(g, &o, "outputs", read_output, e)) ||
        (rc = json_opt_str(&o, "loss", 1, GRAPH_NAME_MAX - 1, &loss, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    return loss ? graph_set_loss(g, graph_value_find(g, loss), e) : 0;
}

int graph_from_json(struct graph **out, const cJSON *node, const char *path, struct err *e)
{
    struct graph *g;
    int rc = graph_create(&g, e);
    if (rc) return rc;
    if ((rc = read_all(g, node, path, e))) {
        graph_free(g);
        return rc;
    }
    *out = g;
    return 0;
}
