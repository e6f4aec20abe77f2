#include "client/net/opening.h"

#include "base/proxy_header.h"
#include "base/units.h"
#include "client/net/dial.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* How much of a greeting is looked at together. */
#define PART 4096

int opening_parse_source(const char *text, struct opening *opening)
{
    const char *colon = strrchr(text, ':');
    char host[ADDRESS_TEXT_SIZE];
    uint64_t port;
    size_t length = colon ? (size_t)(colon - text) : 0;
    const char *from = text;
    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        from++;
        length -= 2;
    } else if (memchr(text, ':', length)) {
        length = 0; /* an IPv6 address without its brackets */
    }
    if (length > 0 && length < sizeof host && units_parse_number(colon + 1, UINT16_MAX, &port) == 0) {
        memcpy(host, from, length);
        host[length] = '\0';
        if (address_parse(host, (uint16_t)port, &opening->proxy_source) == 0) {
            opening->has_proxy_source = true;
            return 0;
        }
    }
    print_error("--proxy-source %.64s: must be ADDRESS:PORT, as 192.0.2.1:1234 or [2001:db8::1]:1234", text);
    return EXIT_USAGE;
}

/* An empty socket has room for it. */
static int send_header(const struct opening *opening, int fd)
{
    struct sockaddr_storage name = {0}, peer = {0};
    socklen_t name_length = sizeof name, peer_length = sizeof peer;
    struct address ours, theirs;
    uint8_t header[PROXY_HEADER_WRITE_SIZE];
    if (getsockname(fd, (struct sockaddr *)&name, &name_length) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_length) < 0)
        return -errno;
    address_from_sockaddr((const struct sockaddr *)&name, &ours);
    address_from_sockaddr((const struct sockaddr *)&peer, &theirs);
    size_t length = proxy_header_write(
        opening->proxy_version, opening->has_proxy_source ? &opening->proxy_source : &ours, &theirs, header);
    ssize_t sent = send(fd, header, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN ? -ENOBUFS : -errno;
    return (size_t)sent == length ? 0 : -ENOBUFS;
}

static bool is_greeted(const struct opening *opening, const struct opening_progress *progress)
{
    return (!opening->skip_line || progress->has_line) && progress->skipped == opening->skip;
}

/* How many of the bytes are of the greeting. */
static size_t measure(const struct opening *opening, struct opening_progress *progress, const char *bytes,
                      size_t length)
{
    size_t taken = 0;
    if (opening->skip_line && !progress->has_line) {
        const char *end = memchr(bytes, '\n', length);
        if (!end)
            return length;
        progress->has_line = true;
        taken = (size_t)(end - bytes) + 1;
    }
    uint64_t wanted = opening->skip - progress->skipped;
    uint64_t part = length - taken < wanted ? length - taken : wanted;
    progress->skipped += part;
    return taken + (size_t)part;
}

/* What follows the greeting stays in the socket. */
static int skip_greeting(const struct opening *opening, struct opening_progress *progress, int fd)
{
    char bytes[PART];
    while (!is_greeted(opening, progress)) {
        ssize_t length = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
        if (length < 0 && errno != EINTR)
            return -errno;
        if (length == 0) {
            progress->has_ended = true;
            return -ECONNRESET;
        }
        if (length < 0)
            continue;
        size_t taken = measure(opening, progress, bytes, (size_t)length);
        if (recv(fd, bytes, taken, MSG_DONTWAIT) < 0)
            return -errno;
        progress->greeted += taken;
    }
    return 0;
}

int opening_go_on(const struct opening *opening, struct opening_progress *progress, int fd)
{
    if (!progress->is_connected) {
        int r = dial_result(fd);
        if (r == 0 && opening && opening->proxy_version > 0)
            r = send_header(opening, fd);
        if (r < 0)
            return r;
        progress->is_connected = true;
    }
    return opening ? skip_greeting(opening, progress, fd) : 0;
}
