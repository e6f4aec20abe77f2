#include "handover/codec.h"

#include <stdlib.h>
#include <string.h>

#define NO_TEXT UINT64_MAX

void codec_fail(struct codec *codec, int error)
{
    if (codec->error == 0)
        codec->error = error;
}

void code_bytes(struct codec *codec, void *bytes, size_t length)
{
    if (codec->out) {
        if (length > 0 && fwrite_unlocked(bytes, length, 1, codec->out) != 1)
            codec_fail(codec, errno ? -errno : -EIO);
        return;
    }
    if ((size_t)(codec->end - codec->at) < length)
        codec_fail(codec, -EBADMSG);
    if (codec->error < 0) {
        memset(bytes, 0, length);
        return;
    }
    memcpy(bytes, codec->at, length);
    codec->at += length;
}

uint64_t code_number(struct codec *codec, uint64_t number)
{
    code_bytes(codec, &number, sizeof number);
    return number;
}

void code_borrowed(struct codec *codec, const uint8_t **bytes, size_t *length)
{
    CODE(codec, *length);
    if (codec->out) {
        code_bytes(codec, (void *)*bytes, *length);
        return;
    }
    if ((size_t)(codec->end - codec->at) < *length)
        codec_fail(codec, -EBADMSG);
    if (codec->error < 0)
        *length = 0;
    *bytes = codec->at;
    codec->at += *length;
}

void code_text(struct codec *codec, char **text)
{
    uint64_t length = code_number(codec, codec->out && *text ? strlen(*text) : NO_TEXT);
    if (codec->out) {
        if (*text)
            code_bytes(codec, *text, length);
        return;
    }
    *text = NULL;
    if (length == NO_TEXT || codec->error < 0)
        return;
    if ((uint64_t)(codec->end - codec->at) < length || memchr(codec->at, '\0', length)) {
        codec_fail(codec, -EBADMSG);
        return;
    }
    *text = strndup((const char *)codec->at, length);
    if (!*text)
        codec_fail(codec, -ENOMEM);
    codec->at += length;
}

void *code_array(struct codec *codec, void *items, size_t *count, size_t size)
{
    CODE(codec, *count);
    if (codec->out)
        return items;
    if ((size_t)(codec->end - codec->at) < *count)
        codec_fail(codec, -EBADMSG);
    void *array = codec->error == 0 ? calloc(*count + 1, size) : NULL; /* calloc(3) of 0 may be NULL */
    if (!array) {
        codec_fail(codec, -ENOMEM);
        *count = 0;
    }
    return array;
}
