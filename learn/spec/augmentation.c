/* The spec's augmentation: read, settled against the rows that it would change, and written. */
#include "learn/spec/names.h"
#include "learn/spec/parse.h"
#include "learn/spec/resolve.h"

static const char *const flip_list[] = {"none", "horizontal", "vertical", "both"};
static const struct words words_flip = {"flip", 4, flip_list};
enum { FLIP_HORIZONTAL = 1, FLIP_VERTICAL = 2 }; /* bits of a word's place */

enum { MOST_SHIFT = 4096 };

int spec__parse_augmentation(struct spec *s, struct json_obj *up, struct err *e)
{
    struct augmentation_spec *a = &s->training.augmentation;
    const cJSON *node = NULL;
    char path[JSON_PATH_MAX];
    struct json_obj o;
    int flip = 0, rc;
    if ((rc = json_opt_object(up, "augmentation", &node, e)) || !node) return rc;
    json_path_name(path, up->path, "augmentation");
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_opt_int(&o, "shift", 0, MOST_SHIFT, &a->shift, e)) ||
        (rc = words_opt(&words_flip, &o, "flip", &flip, e)) ||
        (rc = json_opt_num(&o, "crop", 0.01, 1, &a->crop, e)) ||
        (rc = json_opt_num(&o, "noise", 0, 1e6, &a->noise, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    a->flip_horizontal = flip & FLIP_HORIZONTAL;
    a->flip_vertical = flip & FLIP_VERTICAL;
    return 0;
}

bool augmentation_wanted(const struct augmentation_spec *a)
{
    return a->shift > 0 || a->flip_horizontal || a->flip_vertical || a->crop < 1 || a->noise > 0;
}

int resolve__augmentation(struct resolving *v, struct err *e)
{
    const struct augmentation_spec *a = &v->r->training.augmentation;
    const struct layer_shape *row = &v->r->input;
    char up[JSON_PATH_MAX], path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    if (!augmentation_wanted(a)) return 0;
    resolve__path(v, "training", up);
    json_path_name(path, up, "augmentation");
    if (v->r->family == FAMILY_SEQ2SEQ || v->r->has_texts || v->r->ids_below || v->r->table)
        return err_set(e, ERR_INVALID, path, "augmentation is for images, and this dataset has %s",
                       v->r->table ? "columns of a table" : "texts");
    if (row->rank != 2 && row->rank != 3)
        return err_set(e, ERR_INVALID, path,
                       "augmentation is for images, and a row of this dataset has %d dimension%s; expected "
                       "[height, width] or [height, width, channels]",
                       row->rank, row->rank == 1 ? "" : "s");
    int64_t least = row->dim[0] < row->dim[1] ? row->dim[0] : row->dim[1];
    json_path_name(at, path, "shift");
    if (a->shift >= least)
        return err_set(e, ERR_INVALID, at, "a shift of %lld leaves nothing of images of %lld by %lld",
                       (long long)a->shift, (long long)row->dim[0], (long long)row->dim[1]);
    json_path_name(at, path, "crop");
    if (a->crop * (double)least < 1)
        return err_set(e, ERR_INVALID, at, "a crop to %g leaves nothing of images of %lld by %lld", a->crop,
                       (long long)row->dim[0], (long long)row->dim[1]);
    return 0;
}

uint64_t augmentation_bytes(const struct resolved *r)
{
    uint64_t row = sizeof(float), rows = (uint64_t)r->training.batch_size;
    if (!augmentation_wanted(&r->training.augmentation)) return 0;
    for (int i = 0; i < r->input.rank; i++) row *= (uint64_t)r->input.dim[i]; /* at most MAX_ROW */
    return row * rows;
}

void augmentation_to_json(const struct augmentation_spec *a, struct json_writer *w)
{
    if (!augmentation_wanted(a)) return;
    int flip = (a->flip_horizontal ? FLIP_HORIZONTAL : 0) | (a->flip_vertical ? FLIP_VERTICAL : 0);
    jw_name(w, "augmentation");
    jw_obj(w);
    jw_kint(w, "shift", a->shift);
    jw_kstr(w, "flip", flip_list[flip]);
    jw_knum(w, "crop", a->crop);
    jw_knum(w, "noise", a->noise);
    jw_obj_end(w);
}
