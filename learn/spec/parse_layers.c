/* Reads an architecture, layer by layer: our list, or what Keras's Sequential.to_json() gives. */
#include "learn/spec/parse.h"

#include <stdio.h>
#include <string.h>

#include "learn/spec/fields.h"
#include "learn/spec/names.h"

/* A list of layers that is being read. */
struct chain {
    struct layer_spec *layers; /* in the spec's arena */
    size_t n;
    int depth; /* how many composites are around it */
};

/* One layer as it is read: in our list the fields stand beside "layer", in Keras's JSON inside "config". */
struct reader {
    struct spec *spec;
    struct chain *chain;
    struct layer_spec *layer;
    struct json_obj o; /* where the fields are */
    bool keras;
};

static int parse_list(struct spec *s, struct chain *c, const cJSON *list, const char *path, bool keras,
                      struct err *e);

/* The kinds, in as few letters as a message has room for: what there is of 1D and of 2D is one word, and what
 * Activation can say too is left out. */
static int unknown_kind(const char *kind, const char *path, struct err *e)
{
    char list[512];
    size_t at = 0;
    for (int k = 0; k < KIND_COUNT && at < sizeof list; k++) {
        bool covered = layer_is_activation((enum layer_kind)k) && k != KIND_ACTIVATION;
        if (covered || k == KIND_INPUT) continue;
        const char *name = layer_kind_name((enum layer_kind)k);
        size_t stem = strlen(name) - 2;
        const char *next = k + 1 < KIND_COUNT ? layer_kind_name((enum layer_kind)(k + 1)) : "";
        bool both = strcmp(name + stem, "1D") == 0 && strncmp(name, next, stem) == 0;
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s%s", k ? ", " : "", name, both ? "/2D" : "");
        k += both;
    }
    return err_set(e, ERR_UNSUPPORTED, path, "no layer \"%.24s\" is offered; there are %s", kind, list);
}

/* A first layer's shape may begin with the batch, as Keras writes it. */
static int parse_input(struct reader *r, struct err *e)
{
    static const char *const batch_names[] = {"batch_shape", "batch_input_shape"};
    struct layer_field f = {
        .type = FIELD_SHAPE, .at = offsetof(struct layer_spec, shape), .min = 1, .required = true};
    json_obj_find(&r->o, "sparse");
    json_obj_find(&r->o, "ragged");
    json_obj_find(&r->o, "optional");
    for (size_t i = 0; i < 2; i++) {
        f.name = batch_names[i];
        if (json_obj_find(&r->o, f.name)) return fields_read_shape(r->layer, &r->o, &f, true, e);
    }
    return fields_read(r->layer, &r->o, r->keras, e);
}

/* The list inside a composite. */
static int parse_inner(struct reader *r, struct err *e)
{
    struct chain inner = {.depth = r->chain->depth + 1};
    const cJSON *list = NULL;
    char path[JSON_PATH_MAX];
    int rc;
    json_path_name(path, r->o.path, "layers");
    if (r->keras) return err_set(e, ERR_UNSUPPORTED, r->o.path, "Keras has no such layer; use our own list");
    if (inner.depth > SPEC_MAX_NESTING)
        return err_set(e, ERR_INVALID, path, "layers are nested at most %d deep", SPEC_MAX_NESTING);
    if ((rc = json_take_array(&r->o, "layers", 1, SPEC_MAX_LAYERS, &list, e))) return rc;
    rc = parse_list(r->spec, &inner, list, path, false, e);
    r->layer->layers = inner.layers;
    r->layer->n_layers = inner.n;
    return rc;
}

static int parse_kind(struct reader *r, const char *kind, const char *path, struct err *e)
{
    const struct layer_class *c = layer_class_find(kind);
    char at[JSON_PATH_MAX];
    if (!c && !r->keras && strcmp(kind, "Bidirectional") == 0)
        return err_set(e, ERR_UNSUPPORTED, path,
                       "Bidirectional is a field here: {\"layer\":\"LSTM\",\"bidirectional\":true}");
    if (!c) return unknown_kind(kind, path, e);
    snprintf(at, sizeof at, "%s", r->layer->path);
    *r->layer = layer_usual((enum layer_kind)(c - layer_class_of((enum layer_kind)0)));
    snprintf(r->layer->path, sizeof r->layer->path, "%s", at);
    if (r->layer->kind == KIND_RESIDUAL) return parse_inner(r, e);
    return r->layer->kind == KIND_INPUT ? parse_input(r, e) : fields_read(r->layer, &r->o, r->keras, e);
}

/* Names are kept in one list for the whole spec, since a graph has one name space. */
static bool name_taken(const struct spec *s, const char *name)
{
    for (size_t i = 0; i < s->n_names; i++)
        if (strcmp(s->names[i], name) == 0) return true;
    return false;
}

static int take_name(struct reader *r, struct err *e)
{
    struct spec *s = r->spec;
    if (!s->names && !(s->names = spec__alloc(&s->arena, SPEC_MAX_LAYERS, sizeof *s->names, e)))
        return ERR_NOMEM;
    if (s->n_names == SPEC_MAX_LAYERS)
        return err_set(e, ERR_INVALID, r->layer->path, "an architecture holds at most %d layers",
                       SPEC_MAX_LAYERS);
    snprintf(s->names[s->n_names++], SPEC_NAME_MAX, "%s", r->layer->name);
    return 0;
}

/* The given name, or "dense_1", which later layers may not take. */
static int name_layer(struct reader *r, const char *given, struct err *e)
{
    struct layer_spec *l = r->layer;
    char path[JSON_PATH_MAX], kind[48];
    json_path_name(path, r->o.path, "name");
    if (given) {
        size_t ok = strspn(given, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
        if (given[ok])
            return err_set(e, ERR_INVALID, path,
                           "a layer's name holds letters, digits, '_', '.' and '-' only");
        snprintf(l->name, sizeof l->name, "%s", given);
        if (name_taken(r->spec, l->name))
            return err_set(e, ERR_INVALID, path, "two layers are named \"%s\"", given);
        return take_name(r, e);
    }
    fields_snake_case(kind, sizeof kind, layer_kind_name(l->kind));
    for (size_t n = 1; n <= SPEC_MAX_LAYERS + 1; n++) {
        snprintf(l->name, sizeof l->name, "%s_%zu", kind, n);
        if (!name_taken(r->spec, l->name)) break;
    }
    return take_name(r, e);
}

/* What Keras writes into every config and what does not matter here, besides what must have its usual value.
 */
static int common_keras_fields(struct reader *r, struct err *e)
{
    bool trainable = true;
    int rc = json_opt_bool(&r->o, "trainable", &trainable, e);
    if (rc) return rc;
    char path[JSON_PATH_MAX];
    json_path_name(path, r->o.path, "trainable");
    if (!trainable) return err_set(e, ERR_UNSUPPORTED, path, "frozen layers are not offered");
    json_obj_find(&r->o, "dtype");
    json_obj_find(&r->o, "batch_input_shape"); /* of a first layer: the dataset's shape counts */
    json_obj_find(&r->o, "batch_shape");
    return 0;
}

/* The object inside the frame that Keras puts around a layer: its class into kind, its fields into r->o. */
static int open_keras(struct reader *r, const cJSON *node, const char *path, const char **kind, struct err *e)
{
    const cJSON *config = NULL;
    char at[JSON_PATH_MAX];
    struct json_obj outer;
    int rc;
    if ((rc = json_obj_open(&outer, node, path, e)) ||
        (rc = json_take_str(&outer, "class_name", 1, 64, kind, e)))
        return rc;
    json_obj_find(&outer, "module");
    json_obj_find(&outer, "registered_name");
    json_obj_find(&outer, "build_config");
    json_path_name(at, path, "config");
    if ((rc = json_take_object(&outer, "config", &config, e)) || (rc = json_obj_close(&outer, e)) ||
        (rc = json_obj_open(&r->o, config, at, e)))
        return rc;
    return common_keras_fields(r, e);
}

/* Keras's Bidirectional: its name, and the recurrent layer that it wraps. */
static int parse_wrapper(struct reader *r, struct err *e)
{
    struct reader inner = {.spec = r->spec, .chain = r->chain, .layer = r->layer, .keras = true};
    const cJSON *node = NULL, *backward = json_obj_find(&r->o, "backward_layer");
    const char *kind = NULL, *merge = "concat", *name = NULL;
    char at[JSON_PATH_MAX];
    int rc;
    json_path_name(at, r->o.path, "merge_mode");
    if ((rc = json_opt_str(&r->o, "merge_mode", 1, 16, &merge, e))) return rc;
    if (strcmp(merge, "concat") != 0) return err_set(e, ERR_UNSUPPORTED, at, "only concat is offered here");
    json_path_name(at, r->o.path, "backward_layer");
    if (backward && !cJSON_IsNull(backward))
        return err_set(e, ERR_UNSUPPORTED, at, "this is not offered; leave it out");
    json_path_name(at, r->o.path, "layer");
    if ((rc = json_take_object(&r->o, "layer", &node, e)) || (rc = open_keras(&inner, node, at, &kind, e)) ||
        (rc = json_opt_str(&inner.o, "name", 1, SPEC_NAME_MAX - 1, &name, e)) ||
        (rc = parse_kind(&inner, kind, at, e)))
        return rc;
    if (inner.layer->kind != KIND_SIMPLE_RNN && inner.layer->kind != KIND_GRU &&
        inner.layer->kind != KIND_LSTM)
        return err_set(e, ERR_UNSUPPORTED, at, "Bidirectional goes around SimpleRNN, GRU or LSTM only");
    inner.layer->bidirectional = true;
    return json_obj_close(&inner.o, e);
}

/* TokenAndPositionEmbedding is an Embedding and, behind it, its positions: "name" and "name.positions". */
static int split_embedding(struct reader *r, struct err *e)
{
    const struct layer_spec both = *r->layer;
    struct layer_spec *tokens = r->layer, *places = &r->chain->layers[r->chain->n++];
    *tokens = layer_usual(KIND_EMBEDDING);
    tokens->input_dim = both.input_dim;
    tokens->units = both.units;
    tokens->mask_zero = both.mask_zero;
    *places = layer_usual(KIND_POSITION_EMBEDDING);
    places->steps = both.steps;
    memcpy(tokens->name, both.name, sizeof both.name);
    memcpy(tokens->path, both.path, sizeof both.path);
    memcpy(places->path, both.path, sizeof both.path);
    snprintf(places->name, sizeof places->name, "%.*s.positions", SPEC_NAME_MAX - 11, both.name);
    if (name_taken(r->spec, places->name))
        return err_set(e, ERR_INVALID, both.path, "two layers are named \"%s\"", places->name);
    struct reader second = {.spec = r->spec, .layer = places};
    return take_name(&second, e);
}

static int parse_layer(struct spec *s, struct chain *c, const cJSON *node, const char *path, bool keras,
                       struct err *e)
{
    struct reader r = {.spec = s, .chain = c, .keras = keras, .layer = &c->layers[c->n++]};
    const char *kind = NULL, *name = NULL, *kind_field = keras ? "class_name" : "layer";
    char at[JSON_PATH_MAX];
    int rc;
    snprintf(r.layer->path, sizeof r.layer->path, "%s", path);
    if (keras) {
        if ((rc = open_keras(&r, node, path, &kind, e))) return rc;
    } else if ((rc = json_obj_open(&r.o, node, path, e)) ||
               (rc = json_take_str(&r.o, kind_field, 1, 64, &kind, e))) {
        return rc;
    }
    json_path_name(at, path, kind_field);
    if ((rc = json_opt_str(&r.o, "name", 1, SPEC_NAME_MAX - 1, &name, e))) return rc;
    rc = keras && strcmp(kind, "Bidirectional") == 0 ? parse_wrapper(&r, e) : parse_kind(&r, kind, at, e);
    if (rc || (rc = name_layer(&r, name, e)) || (rc = json_obj_close(&r.o, e))) return rc;
    return r.layer->kind == KIND_TOKEN_AND_POSITION_EMBEDDING ? split_embedding(&r, e) : 0;
}

static int parse_list(struct spec *s, struct chain *c, const cJSON *list, const char *path, bool keras,
                      struct err *e)
{
    char at[JSON_PATH_MAX];
    int rc = 0, n = cJSON_GetArraySize(list), index = 0;
    if (n < 1 || n > SPEC_MAX_LAYERS)
        return err_set(e, ERR_INVALID, path, "expected 1 to %d layers, got %d", SPEC_MAX_LAYERS, n);
    c->layers = spec__alloc(&s->arena, 2 * (size_t)n, sizeof *c->layers, e); /* one may become two */
    if (!c->layers) return ERR_NOMEM;
    for (const cJSON *item = list->child; item && !rc; item = item->next) {
        json_path_index(at, path, (size_t)index++);
        rc = parse_layer(s, c, item, at, keras, e);
    }
    return rc;
}

static int parse_keras(struct spec *s, struct chain *out, const cJSON *node, const char *path, struct err *e)
{
    static const char *const ignored[] = {"keras_version",   "backend",      "module",
                                          "registered_name", "build_config", "compile_config"};
    static const char *const ignored_config[] = {"name", "trainable", "dtype", "build_input_shape"};
    struct json_obj o, c;
    const char *kind = NULL;
    const cJSON *config = NULL, *layers = NULL;
    char at[JSON_PATH_MAX], list_path[JSON_PATH_MAX];
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = json_take_str(&o, "class_name", 1, 64, &kind, e)))
        return rc;
    json_path_name(at, path, "class_name");
    if (strcmp(kind, "Sequential") != 0)
        return err_set(e, ERR_UNSUPPORTED, at, "of Keras's models only Sequential is offered, not \"%.40s\"",
                       kind);
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) json_obj_find(&o, ignored[i]);
    json_path_name(at, path, "config");
    if ((rc = json_take_object(&o, "config", &config, e)) || (rc = json_obj_close(&o, e)) ||
        (rc = json_obj_open(&c, config, at, e)) ||
        (rc = json_take_array(&c, "layers", 1, SPEC_MAX_LAYERS, &layers, e)))
        return rc;
    for (size_t i = 0; i < sizeof ignored_config / sizeof ignored_config[0]; i++)
        json_obj_find(&c, ignored_config[i]);
    if ((rc = json_obj_close(&c, e))) return rc;
    json_path_name(list_path, at, "layers");
    return parse_list(s, out, layers, list_path, true, e);
}

static int parse_chain(struct spec *s, struct chain *c, const cJSON *node, const char *path, struct err *e)
{
    if (cJSON_IsArray(node)) return parse_list(s, c, node, path, false, e);
    if (cJSON_IsObject(node)) return parse_keras(s, c, node, path, e);
    if (!cJSON_IsString(node))
        return err_set(
            e, ERR_INVALID, path,
            "expected a list of layers, or a Sequential model of Keras as model.to_json() gives it");
    cJSON *inner = NULL;
    int rc = json_parse(&inner, node->valuestring, strlen(node->valuestring), 100000, e);
    if (rc) {
        err_under(e, path);
        return rc;
    }
    rc = parse_keras(s, c, inner, path, e);
    cJSON_Delete(inner);
    return rc;
}

/* {"encoder":[…],"decoder":[…]} */
static int parse_pair(struct spec *s, const cJSON *node, const char *path, struct err *e)
{
    struct chain encoder = {0}, decoder = {0};
    const cJSON *list = NULL;
    char at[JSON_PATH_MAX];
    struct json_obj o;
    int rc;
    json_path_name(at, path, "encoder");
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_take_array(&o, "encoder", 1, SPEC_MAX_LAYERS, &list, e)) ||
        (rc = parse_list(s, &encoder, list, at, false, e)))
        return rc;
    json_path_name(at, path, "decoder");
    if ((rc = json_take_array(&o, "decoder", 1, SPEC_MAX_LAYERS, &list, e)) ||
        (rc = parse_list(s, &decoder, list, at, false, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    s->layers = encoder.layers;
    s->n_layers = encoder.n;
    s->decoder = decoder.layers;
    s->n_decoder = decoder.n;
    return 0;
}

int spec__parse_layers(struct spec *s, const cJSON *node, const char *path, struct err *e)
{
    struct chain c = {0};
    if (s->family == FAMILY_SEQ2SEQ) return parse_pair(s, node, path, e);
    int rc = parse_chain(s, &c, node, path, e);
    s->layers = c.layers;
    s->n_layers = c.n;
    return rc;
}
