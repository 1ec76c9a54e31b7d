/* Reads IDX images for the demo and draws them with half-block characters. */
#include "admin/cli/images.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "admin/cli/output.h"
#include "base/mem.h"

enum { GAP = 2, BYTES_MAX = 1 << 30 };

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One IDX file of unsigned bytes with `dims` dimensions: *size[] are its sizes, the result its elements. */
static int read_idx(const char *path, unsigned dims, size_t size[3], uint8_t **out, struct err *e)
{
    gzFile f = gzopen(path, "rb");
    if (!f) return err_errno(e, ERR_NOT_FOUND, "open %s", path);
    uint8_t head[16];
    size_t total = 1;
    int rc = 0;
    if (gzread(f, head, 4 + 4 * dims) != (int)(4 + 4 * dims) || big_endian(head) != (0x0800U | dims))
        rc = err_set(e, ERR_INVALID, NULL, "%s is not an IDX file of bytes with %u dimensions", path, dims);
    for (unsigned i = 0; rc == 0 && i < dims; i++) {
        size[i] = big_endian(head + 4 + 4 * i);
        if (!mem_mul(total, size[i], &total) || total > BYTES_MAX)
            rc = err_set(e, ERR_TOO_LARGE, NULL, "%s is too large", path);
    }
    if (rc == 0 && !(*out = mem_try_alloc(total, 1)))
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for %s", path);
    if (rc == 0 && gzread(f, *out, (unsigned)total) != (int)total)
        rc = err_set(e, ERR_CORRUPT, NULL, "%s ends early", path);
    gzclose(f);
    return rc;
}

int images_load(struct images *out, const char *images_path, const char *labels_path, struct err *e)
{
    size_t size[3] = {0}, labels[3] = {0};
    *out = (struct images){0};
    int rc = read_idx(images_path, 3, size, &out->pixels, e);
    if (rc == 0) rc = read_idx(labels_path, 1, labels, &out->labels, e);
    if (rc == 0 && labels[0] != size[0])
        rc = err_set(e, ERR_INVALID, NULL, "%zu images but %zu labels", size[0], labels[0]);
    if (rc) images_dispose(out);
    out->count = size[0];
    out->rows = size[1];
    out->columns = size[2];
    return rc;
}

void images_dispose(struct images *i)
{
    mem_free(i->pixels);
    mem_free(i->labels);
    i->pixels = i->labels = NULL;
}

static void print_cell(uint8_t top, uint8_t bottom, bool colour)
{
    static const char shades[] = " .:-=+*#%@";
    if (colour)
        printf("\033[38;5;%dm\033[48;5;%dm▀", 232 + top * 23 / 255, 232 + bottom * 23 / 255);
    else
        putchar(shades[(top + bottom) / 2 * 9 / 255]);
}

void images_print(const struct images *im, const size_t *which, const char *const *captions, size_t n)
{
    bool colour = output_is_terminal();
    for (size_t row = 0; row + 1 < im->rows + 1; row += 2) {
        for (size_t i = 0; i < n; i++) {
            const uint8_t *top = im->pixels + (which[i] * im->rows + row) * im->columns;
            const uint8_t *bottom = row + 1 < im->rows ? top + im->columns : top;
            for (size_t col = 0; col < im->columns; col++) print_cell(top[col], bottom[col], colour);
            printf("%s%*s", colour ? "\033[0m" : "", GAP, "");
        }
        putchar('\n');
    }
    for (size_t i = 0; i < n; i++) printf("%-*.*s", (int)im->columns + GAP, (int)im->columns, captions[i]);
    putchar('\n');
}
