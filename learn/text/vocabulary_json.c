/* Vocabularies as JSON, and back without trusting a byte. */
#include <string.h>

#include "learn/spec/names.h"
#include "learn/text/vocabulary_impl.h"

void vocabulary_to_json(const struct vocabulary *v, struct json_writer *w)
{
    jw_obj(w);
    text_options_to_json(&v->options, w);
    jw_name(w, "tokens");
    jw_arr(w);
    for (uint32_t i = 0; i < v->tokens.n; i++)
        jw_strn(w, v->tokens.bytes + v->tokens.entry[i].at, v->tokens.entry[i].len);
    jw_arr_end(w);
    jw_obj_end(w);
}

static int options_from_json(struct text_options *out, struct json_obj *o, struct err *e)
{
    int mode = 0, truncate = 0, rc;
    if ((rc = words_take(&words_text_mode, o, "mode", &mode, e)) ||
        (rc = json_take_bool(o, "lower", &out->tokenise.lower, e)) ||
        (rc = json_take_bool(o, "punctuation", &out->tokenise.punctuation, e)) ||
        (rc = json_take_int(o, "vocabulary", TEXT_ID_FIRST + 1, TEXT_MAX_IDS, &out->max_ids, e)) ||
        (rc = json_take_int(o, "min_count", 1, INT32_MAX, &out->min_count, e)) ||
        (rc = json_take_int(o, "length", TEXT_MIN_LENGTH, TEXT_MAX_LENGTH, &out->length, e)) ||
        (rc = words_take(&words_text_truncate, o, "truncate", &truncate, e)) ||
        (rc = json_take_bool(o, "marks", &out->marks, e)))
        return rc;
    out->tokenise.mode = (enum text_mode)mode;
    out->truncate = (enum text_truncate)truncate;
    return 0;
}

/* Whether a text is a token as these options make them. */
static bool is_token(const struct tokenise *how, const char *text, size_t len)
{
    struct token_reader r;
    token_reader_init(&r, how, text, len);
    return token_reader_next(&r) && r.len == len && memcmp(r.token, text, len) == 0;
}

/* list: the path of the tokens, of which this is number i. */
static int refuse_token(const char *list, size_t i, const char *what, struct err *e)
{
    char at[JSON_PATH_MAX];
    json_path_index(at, list, i);
    return err_set(e, ERR_INVALID, at, "%s", what);
}

static int token_from_json(struct vocabulary *v, const cJSON *node, const char *path, size_t i, struct err *e)
{
    const char *text = node->valuestring;
    size_t len = cJSON_IsString(node) ? strlen(text) : 0;
    if (len == 0 || len > TEXT_MAX_TOKEN || !is_token(&v->options.tokenise, text, len))
        return refuse_token(path, i, "expected a token, as the options beside it make them", e);
    uint32_t hash = token_hash(text, len);
    if (token_table_find(&v->tokens, text, len, hash) >= 0)
        return refuse_token(path, i, "the token is there twice", e);
    if (token_table_add(&v->tokens, text, len, hash)) return 0;
    return err_set(e, ERR_NOMEM, NULL, "no memory for a vocabulary");
}

int vocabulary_from_json(struct vocabulary **out, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    struct text_options options = {0};
    struct vocabulary *v = NULL;
    const cJSON *list = NULL;
    char tokens[JSON_PATH_MAX];
    size_t i = 0;
    int rc;
    *out = NULL;
    if ((rc = json_obj_open(&o, node, path, e)) || (rc = options_from_json(&options, &o, e)) ||
        (rc = json_take_array(&o, "tokens", 0, (size_t)(options.max_ids - TEXT_ID_FIRST), &list, e)) ||
        (rc = json_obj_close(&o, e)) || (rc = vocabulary__create(&v, &options, e)))
        return rc;
    json_path_name(tokens, o.path, "tokens");
    for (const cJSON *c = list->child; c && !rc; c = c->next) rc = token_from_json(v, c, tokens, i++, e);
    if (rc)
        vocabulary_free(v);
    else
        *out = v;
    return rc;
}
