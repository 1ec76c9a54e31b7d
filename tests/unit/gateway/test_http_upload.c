/* Large bodies: read by pool threads, held by nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/http_fixture.h"

enum { MIB = 1 << 20 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HELD_KIB_MAX = 1024 * 1024 }; /* the sanitizer keeps freed memory in quarantine, 256 MiB of it */
#else
enum { HELD_KIB_MAX = 32 * 1024 };
#endif

static struct fixture fixture;
static char *piece; /* a MiB of noise */

/* A line of /proc/self/status in KiB: "VmRSS:" now, "VmHWM:" the most since clear_refs was written. */
static long memory_kib(const char *line)
{
    char text[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(text, sizeof text, f)) {
        if (!strncmp(text, line, strlen(line))) kib = atol(text + strlen(line));
    }
    if (f) fclose(f);
    return kib;
}

static void forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "5", 1), 1);
    close(fd);
}

static void an_upload_of_256_mib_holds_less_than_32_mib(void **state)
{
    (void)state;
    enum { PIECES = 256 };
    struct client c;
    struct reply r;
    char text[128];
    uint32_t crc = 0;
    client_open(&c, fixture.port);
    client_expect(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
                  200); /* pages in what every upload needs */
    long before = memory_kib("VmRSS:");
    forget_peak();
    snprintf(text, sizeof text, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: %ld\r\n\r\n",
             (long)PIECES * MIB);
    client_text(&c, text);
    for (int i = 0; i < PIECES; i++) {
        client_send(&c, piece, MIB);
        crc = crypto_crc32(crc, piece, MIB);
    }
    client_reply(&c, &r, false);
    snprintf(text, sizeof text, "%ld %08x", (long)PIECES * MIB, crc);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body.data, text);
    reply_dispose(&r);
    long grown = memory_kib("VmHWM:") - before;
    print_message("peak growth: %ld KiB\n", grown);
    assert_in_range(grown, 0, HELD_KIB_MAX);
    client_close(&c);
}

static void a_chunked_upload_arrives_whole_whatever_its_chunks(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 4096, 65535, 65536, 65537, 300000, 2, MIB};
    struct client c;
    struct reply r;
    char text[128];
    uint32_t crc = 0;
    size_t total = 0;
    client_open(&c, fixture.port);
    client_text(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < 5 * sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i % (sizeof sizes / sizeof *sizes)];
        snprintf(text, sizeof text, "%zx\r\n", size);
        client_text(&c, text);
        client_send(&c, piece, size);
        client_text(&c, "\r\n");
        crc = crypto_crc32(crc, piece, size);
        total += size;
    }
    client_text(&c, "0\r\n\r\n");
    client_reply(&c, &r, false);
    snprintf(text, sizeof text, "%zu %08x", total, crc);
    assert_string_equal(r.body.data, text);
    reply_dispose(&r);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_close(&c);
}

static bool handler_waits(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.running) == 1;
}

static void a_reader_that_does_not_read_stops_its_client(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    const size_t total = (size_t)64 * MIB;
    char text[128];
    client_open(&c, fixture.port);
    int small = 64 * 1024;
    setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    snprintf(text, sizeof text, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", total);
    client_text(&c, text);
    wait_until(handler_waits, NULL, "the handler starts");
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    struct pollfd p = {.fd = c.fd, .events = POLLOUT};
    while (sent < total && poll(&p, 1, 300) > 0) {
        ssize_t n = send(c.fd, piece, MIB - sent % MIB, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
    }
    assert_true(sent < (size_t)16 * MIB); /* the kernel's buffers, and 256 KiB of ours */
    fixture_open_gate(&fixture);
    fcntl(c.fd, F_SETFL, 0);
    while (sent < total) {
        size_t n = total - sent < MIB ? total - sent : MIB;
        client_send(&c, piece, n);
        sent += n;
    }
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(strtoul(r.body.data, NULL, 10), total);
    reply_dispose(&r);
    client_close(&c);
}

static bool read_failed(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.last_read_rc) == ERR_IO;
}

static bool nothing_is_open(void *arg)
{
    (void)arg;
    struct server_stats s = fixture_stats(&fixture);
    return s.open_connections == 0 && s.open_exchanges == 0;
}

static void a_client_that_vanishes_fails_the_read_of_its_body(void **state)
{
    (void)state;
    struct client c;
    atomic_store(&fixture.last_read_rc, 0);
    client_open(&c, fixture.port);
    client_text(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client_send(&c, piece, MIB);
    struct linger reset = {.l_onoff = 1};
    setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(&c);
    wait_until(read_failed, NULL, "body_read fails");
    wait_until(nothing_is_open, NULL, "the exchange is finished");
}

static void an_upload_over_the_limit_fails_the_read(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741825\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 413);
    assert_true(r.close);
    reply_dispose(&r);
    client_close(&c);
}

static void a_malformed_chunk_fails_the_read_with_its_reason(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c,
                "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(r.body.data, "a malformed chunk size"));
    reply_dispose(&r);
    client_close(&c);
}

static int start(void **state)
{
    (void)state;
    uint64_t noise = 88172645463325252u;
    fixture_init(&fixture);
    fixture_start(&fixture);
    piece = mem_alloc(MIB, 1);
    for (int i = 0; i < MIB; i++) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        piece[i] = (char)noise;
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    mem_free(piece);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_of_256_mib_holds_less_than_32_mib),
        cmocka_unit_test(a_chunked_upload_arrives_whole_whatever_its_chunks),
        cmocka_unit_test(a_reader_that_does_not_read_stops_its_client),
        cmocka_unit_test(a_client_that_vanishes_fails_the_read_of_its_body),
        cmocka_unit_test(an_upload_over_the_limit_fails_the_read),
        cmocka_unit_test(a_malformed_chunk_fails_the_read_with_its_reason),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
