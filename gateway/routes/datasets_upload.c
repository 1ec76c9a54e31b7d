/* Receives a dataset in one pass and constant memory: every byte goes to the scanner and to the encrypted
 * blob at the same time, and nothing is kept unless all of it is right.
 *
 *   raw body ────────────┐                 ┌▶ scan (schema, or what is wrong in which line)
 *                        ├─ 64 KiB at a ───┤
 *   form: name, files ───┘  time           └▶ blob writer (temporary file)
 *
 *   all parts read ─▶ schemas joined ─▶ blobs finished ─▶ one transaction: rows, audit, idempotency record */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/http/multipart.h"
#include "learn/data/scan.h"
#include "store/dataset.h"

enum { PIECE_BYTES = 64 * 1024, FORM_PARTS_MAX = 8, NAME_MAX_BYTES = STORE_NAME_MAX };

struct part {
    enum scan_role role;
    struct blob_writer *writer; /* owned */
    struct schema *schema;      /* owned */
    struct blob blob;
};

struct upload {
    struct api_call *c;
    const char *idempotency_key; /* or NULL */
    char name[NAME_MAX_BYTES];   /* "" until it came */
    int format;                  /* enum schema_format; -1: by the first bytes */
    int64_t room_bytes;          /* what the plan has left for this dataset */
    struct blob_key key;
    struct part parts[DATASET_PARTS_MAX];
    int parts_len;
    struct schema *joined;  /* owned; features and labels together */
    struct buf schema_json; /* owned */
    struct idem idem;
    struct dataset dataset;
};

static void upload_dispose(struct upload *u)
{
    for (int i = 0; i < u->parts_len; i++) {
        blob_writer_free(u->parts[i].writer);
        schema_free(u->parts[i].schema);
    }
    schema_free(u->joined);
    buf_dispose(&u->schema_json);
    blob_key_wipe(&u->key);
}

/* ---- one file ---- */

/* Where a file's bytes come from: the body itself, or a part of the form. */
struct source {
    ssize_t (*read)(void *from, void *buf, size_t cap, struct err *e);
    void *from;
};

static ssize_t read_body(void *from, void *buf, size_t cap, struct err *e)
{
    return body_read(from, buf, cap, e);
}

static ssize_t read_form(void *from, void *buf, size_t cap, struct err *e)
{
    return multipart_read(from, buf, cap, e);
}

static const char *role_name(enum scan_role role)
{
    return role == SCAN_FEATURES ? "features" : role == SCAN_LABELS ? "labels" : "file";
}

static int pump(struct upload *u, struct part *p, struct scan *scan, const struct source *from, char *piece,
                struct err *e)
{
    ssize_t n;
    while ((n = from->read(from->from, piece, PIECE_BYTES, e)) > 0) {
        metrics_upload(u->c->g->metrics, n);
        int rc = blob_writer_append(p->writer, piece, (size_t)n, e);
        if (rc == 0) rc = scan_push(scan, piece, (size_t)n, e);
        if (rc != 0) return rc;
    }
    if (n < 0) return (int)n;
    return scan_finish(scan, &p->schema, e);
}

static int64_t taken_bytes(const struct upload *u)
{
    int64_t sum = 0;
    for (int i = 0; i < u->parts_len; i++) sum += blob_writer_bytes(u->parts[i].writer);
    return sum;
}

static int check_role(const struct upload *u, enum scan_role role, struct err *e)
{
    for (int i = 0; i < u->parts_len; i++) {
        enum scan_role other = u->parts[i].role;
        if (other == role)
            return err_set(e, ERR_INVALID, role_name(role), "the form has more than one %s", role_name(role));
        if (other == SCAN_FILE || role == SCAN_FILE)
            return err_set(e, ERR_INVALID, role_name(role), "a form has either file, or features and labels");
    }
    return 0;
}

static int read_file(struct upload *u, enum scan_role role, const struct source *from, struct err *e)
{
    int rc = check_role(u, role, e);
    if (rc != 0) return rc;
    struct part *p = &u->parts[u->parts_len];
    struct scan_options options = {.role = role, .format = u->format};
    struct scan *scan = NULL;
    char *piece = NULL;
    int64_t room = u->room_bytes - taken_bytes(u);
    *p = (struct part){.role = role};
    if ((rc = blob_writer_create(&p->writer, u->c->g->blobs, &u->key, room, e)) != 0) return rc;
    u->parts_len++;
    if ((rc = scan_create(&scan, &options, e)) != 0) return rc;
    piece = mem_try_alloc(1, PIECE_BYTES);
    rc = piece != NULL ? pump(u, p, scan, from, piece, e)
                       : err_set(e, ERR_NOMEM, NULL, "no memory for the upload");
    mem_free(piece);
    scan_free(scan);
    if (rc == ERR_TOO_LARGE && e->field[0] == '\0')
        err_set(e, rc, role_name(role),
                "the dataset is larger than the %lld bytes that your plan has left for it",
                (long long)u->room_bytes);
    else if (rc == ERR_INVALID && e->field[0] == '\0')
        snprintf(e->field, sizeof(e->field), "%s", role_name(role));
    return rc;
}

/* ---- the two forms of the request ---- */

static int set_name(struct upload *u, const char *name, struct err *e)
{
    if (!id_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "a dataset's name is 1 to 64 characters of a-z 0-9 . _ - and starts with a "
                       "letter or digit");
    snprintf(u->name, sizeof(u->name), "%s", name);
    return 0;
}

static int set_format(struct upload *u, const char *format, struct err *e)
{
    u->format = schema_format_of(format);
    if (u->format >= 0) return 0;
    return err_set(e, ERR_INVALID, "format", "unknown format; known are csv, idx and npy");
}

static int read_query(struct upload *u, struct err *e)
{
    const char *name = request_query(u->c->request, "name"), *format = request_query(u->c->request, "format");
    int rc = name != NULL ? set_name(u, name, e) : 0;
    if (rc == 0 && format != NULL) rc = set_format(u, format, e);
    return rc;
}

static int need_name(const struct upload *u, struct err *e)
{
    if (u->name[0] != '\0') return 0;
    return err_set(e, ERR_INVALID, "name",
                   "the dataset needs a name: the query parameter name, or the form's field name");
}

static int read_raw(struct upload *u, struct err *e)
{
    struct source body = {read_body, u->c->call->reader};
    int rc = need_name(u, e);
    if (rc == 0 && !u->c->request->has_body)
        rc = err_set(e, ERR_INVALID, "file",
                     "the body is empty; send the file as the body or as a multipart form");
    return rc != 0 ? rc : read_file(u, SCAN_FILE, &body, e);
}

static int read_field(struct upload *u, struct multipart *m, const char *field, struct err *e)
{
    char text[256];
    ssize_t n = multipart_read_all(m, text, sizeof(text), e);
    if (n == ERR_TOO_LARGE) return err_set(e, ERR_INVALID, field, "the form's field %s is too long", field);
    if (n < 0) return (int)n;
    if (strlen(text) != (size_t)n)
        return err_set(e, ERR_INVALID, field, "the form's field %s holds a NUL", field);
    return strcmp(field, "name") == 0 ? set_name(u, text, e) : set_format(u, text, e);
}

static int read_part(struct upload *u, struct multipart *m, const struct multipart_part *part, struct err *e)
{
    struct source form = {read_form, m};
    if (strcmp(part->name, "name") == 0 || strcmp(part->name, "format") == 0)
        return read_field(u, m, part->name, e);
    if (strcmp(part->name, "file") == 0) return read_file(u, SCAN_FILE, &form, e);
    if (strcmp(part->name, "features") == 0) return read_file(u, SCAN_FEATURES, &form, e);
    if (strcmp(part->name, "labels") == 0) return read_file(u, SCAN_LABELS, &form, e);
    return err_set(e, ERR_INVALID, part->name,
                   "unknown field in the form; known are name, format, file, features, labels");
}

static int read_multipart(struct upload *u, struct err *e)
{
    struct multipart *m;
    struct multipart_part part;
    const char *type = request_header(u->c->request, "content-type");
    int rc = multipart_create(&m, type, FORM_PARTS_MAX, multipart_pull_body, u->c->call->reader, e);
    if (rc != 0) return rc;
    int more;
    while (rc == 0 && (more = multipart_next(m, &part, e)) != 0)
        rc = more < 0 ? more : read_part(u, m, &part, e);
    multipart_free(m);
    if (rc == 0) rc = need_name(u, e);
    if (rc == 0 && u->parts_len == 0)
        rc = err_set(e, ERR_INVALID, "file", "the form has no file: send file, or features and labels");
    return rc;
}

/* ---- the whole ---- */

static const struct schema *whole_schema(const struct upload *u)
{
    return u->joined != NULL ? u->joined : u->parts[0].schema;
}

static int join(struct upload *u, struct err *e)
{
    struct json_writer w;
    int rc = 0;
    if (u->parts_len == 1 && u->parts[0].role == SCAN_LABELS)
        return err_set(e, ERR_INVALID, "features", "labels came without features");
    if (u->parts_len == 2) {
        int features = u->parts[0].role == SCAN_FEATURES ? 0 : 1;
        rc = schema_join(&u->joined, u->parts[features].schema, u->parts[1 - features].schema, e);
    }
    if (rc != 0) return rc;
    jw_init(&w, &u->schema_json);
    schema_to_json(whole_schema(u), &w);
    return u->schema_json.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the schema") : 0;
}

static int create_tx(struct db *db, void *arg, struct err *e)
{
    struct upload *u = arg;
    struct api_call *c = u->c;
    char shas[DATASET_PARTS_MAX * SHA256_HEX_LEN + NAME_MAX_BYTES];
    struct dataset_new in = {.name = u->name,
                             .format = schema_format_name(whole_schema(u)->format),
                             .rows = whole_schema(u)->rows,
                             .schema = u->schema_json.data,
                             .n_parts = u->parts_len};
    int len = snprintf(shas, sizeof(shas), "%s", u->name);
    for (int i = 0; i < u->parts_len; i++)
        len += snprintf(shas + len, sizeof(shas) - (size_t)len, " %s", u->parts[i].blob.sha256);
    int rc = api_idem_take(c, u->idempotency_key, shas, (size_t)len, &u->idem, e);
    if (rc != 0 || u->idem.outcome == IDEM_REPLAY) return rc;
    for (int i = 0; i < u->parts_len && rc == 0; i++) {
        struct dataset_part *part = &in.parts[i];
        struct blob blob = u->parts[i].blob; /* blob_put may change it, and this may run again */
        rc = blob_put(db, &blob, e);
        snprintf(part->role, sizeof(part->role), "%s", scan_part(u->parts[i].schema, u->parts[i].role));
        snprintf(part->sha256, sizeof(part->sha256), "%s", blob.sha256);
        part->bytes = blob.bytes;
    }
    if (rc == 0) rc = dataset_create(db, &in, &c->by, c->arena, &u->dataset, e);
    if (rc == 0) rc = dataset__write(api_reply(c, 201), &u->dataset, e);
    return rc != 0 ? rc : api_idem_finish(c, u->idempotency_key, &u->idem, e);
}

/* Before a byte is read: is there room, and under which key is it kept? */
static int prepare(struct upload *u, struct err *e)
{
    int rc = api_idempotency_key(u->c, &u->idempotency_key, e);
    if (rc == 0) rc = read_query(u, e);
    if (rc == 0) rc = api_begin(u->c, e);
    if (rc != 0) return rc;
    rc = dataset_room(u->c->db, &u->room_bytes, e);
    if (rc == 0) rc = blob_key_load(u->c->db, u->c->g->blobs, &u->key, e);
    return api_end(u->c, rc, e);
}

static int receive(struct upload *u, struct err *e)
{
    bool form = request_is_type(u->c->request, "multipart/form-data");
    int rc = form ? read_multipart(u, e) : read_raw(u, e);
    if (rc == 0) rc = join(u, e);
    for (int i = 0; i < u->parts_len && rc == 0; i++)
        rc = blob_writer_finish(u->parts[i].writer, &u->parts[i].blob, e);
    return rc;
}

int datasets_create(struct api_call *c, struct err *e)
{
    struct upload u = {.c = c, .format = -1};
    int rc = prepare(&u, e);
    if (rc == 0) rc = receive(&u, e);
    if (rc == 0) rc = db_run(c->db, c->who->tenant_id, create_tx, &u, e);
    if (rc == 0 && u.idem.outcome == IDEM_REPLAY) api_replay(c, &u.idem);
    upload_dispose(&u);
    return rc;
}
