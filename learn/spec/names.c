/* Tables of the words that specs are written in. */
#include "learn/spec/names.h"

#include <stdio.h>
#include <string.h>

#include "learn/spec/spec.h"

#define WORDS(name, what, ...)                                                                               \
    static const char *const name##_list[] = {__VA_ARGS__};                                                  \
    const struct words name = {what, (int)(sizeof name##_list / sizeof name##_list[0]), name##_list}

WORDS(words_task, "task", "auto", "regression", "classification", "sequence");
WORDS(words_family, "family", "linear_regression", "logistic_regression", "mlp", "seq2seq");
WORDS(words_loss, "loss", "auto", "mse", "sparse_categorical_crossentropy", "binary_crossentropy");
WORDS(words_precision, "precision", "auto", "f32", "bf16", "bf16x3");
WORDS(words_activation, "activation", "linear", "relu", "leaky_relu", "tanh", "sigmoid", "softmax", "gelu",
      "silu");
WORDS(words_step, "op", "standardise", "scale", "one_hot", "rescale", "impute", "tokenise");
WORDS(words_impute, "strategy", "mean", "most_frequent", "constant");
WORDS(words_init, "initializer", "zeros", "ones", "constant", "random_uniform", "random_normal",
      "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
      "orthogonal");

WORDS(words_text_mode, "mode", "word", "character");
WORDS(words_text_truncate, "truncate", "end", "start");
WORDS(words_padding, "padding", "valid", "same", "causal");

int words_find(const struct words *w, const char *text)
{
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->word[i], text) == 0) return i;
    return -1;
}

char *words_list(const struct words *w, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < w->n && at < cap; i++) {
        const char *between = i == 0 ? "" : i == w->n - 1 ? " or " : ", ";
        int n = snprintf(out + at, cap - at, "%s%s", between, w->word[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    return out;
}

void *spec__alloc(struct arena *a, size_t count, size_t size, struct err *e)
{
    void *p = arena_try_alloc(a, count, size);
    if (!p) err_set(e, ERR_NOMEM, NULL, "no memory for the spec");
    return p;
}

char *spec__text(struct arena *a, const char *s, struct err *e)
{
    size_t n = strlen(s) + 1;
    char *copy = spec__alloc(a, n, 1, e);
    if (copy) memcpy(copy, s, n);
    return copy;
}

static int lookup(const struct words *w, const struct json_obj *o, const char *name, const char *text,
                  int *out, struct err *e)
{
    char path[JSON_PATH_MAX], list[256];
    int i = words_find(w, text);
    if (i >= 0) {
        *out = i;
        return 0;
    }
    json_path_name(path, o->path, name);
    return err_set(e, ERR_INVALID, path, "\"%.40s\" is no %s that is offered; expected %s", text, w->what,
                   words_list(w, list, sizeof list));
}

int words_opt(const struct words *w, struct json_obj *o, const char *name, int *out, struct err *e)
{
    const char *text = NULL;
    int rc = json_opt_str(o, name, 1, 64, &text, e);
    return rc || !text ? rc : lookup(w, o, name, text, out, e);
}

int words_take(const struct words *w, struct json_obj *o, const char *name, int *out, struct err *e)
{
    const char *text = NULL;
    int rc = json_take_str(o, name, 1, 64, &text, e);
    return rc ? rc : lookup(w, o, name, text, out, e);
}

const char *task_name(enum task t)
{
    return words_task.word[t];
}

const char *family_name(enum family f)
{
    return words_family.word[f];
}

const char *precision_name(enum precision p)
{
    return words_precision.word[p];
}

const char *loss_name(enum loss l)
{
    return words_loss.word[l];
}

const char *activation_name(enum activation a)
{
    return words_activation.word[a];
}

const char *step_op_name(enum step_op op)
{
    return words_step.word[op];
}
