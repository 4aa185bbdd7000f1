/* The least that a download can cost: read (or SSL_read), SHA-1, write. Nothing is checked but the length.
 *
 * barest HOST PORT PATH OUT [AUTHORITY]     with an authority's certificate: over TLS
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (128 * 1024)

static int sock;
static SSL *tls;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static ssize_t receive(char *room, size_t most)
{
    return tls ? SSL_read(tls, room, (int)most) : read(sock, room, most);
}

/* Over TLS a record has at most 16 kB: they are collected, so that there are no more writes than over HTTP. */
static size_t fill(char *room, size_t most)
{
    size_t there = 0;
    do {
        ssize_t count = receive(room + there, most - there);
        if (count <= 0)
            die("receive");
        there += (size_t)count;
    } while (tls && there < most);
    return there;
}

static void write_all(int file, const char *data, size_t size)
{
    while (size) {
        ssize_t count = write(file, data, size);
        if (count <= 0)
            die("write");
        data += count;
        size -= (size_t)count;
    }
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &there.sin_addr);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(sock, (struct sockaddr *)&there, sizeof there))
        die("connect");
    if (argc > 5) {
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_load_verify_locations(context, argv[5], NULL);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        tls = SSL_new(context);
        SSL_set_fd(tls, sock);
        if (SSL_connect(tls) != 1)
            die("SSL_connect");
    }

    static char room[ROOM];
    int length = snprintf(room, ROOM, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[3], argv[1]);
    if ((tls ? SSL_write(tls, room, length) : write(sock, room, (size_t)length)) != length)
        die("request");
    size_t have = 0;
    char *body;
    do {
        ssize_t count = receive(room + have, ROOM - 1 - have);
        if (count <= 0)
            die("headers");
        have += (size_t)count;
        room[have] = 0;
        body = strstr(room, "\r\n\r\n");
    } while (!body);
    char *told = strstr(room, "Content-Length: ");
    if (!told)
        die("no length");
    long long left = atoll(told + strlen("Content-Length: "));
    body += 4;

    int out = open(argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    EVP_DigestInit_ex(sum, EVP_sha1(), NULL);
    size_t count = have - (size_t)(body - room);
    memmove(room, body, count);
    for (;;) {
        EVP_DigestUpdate(sum, room, count);
        write_all(out, room, count);
        left -= (long long)count;
        if (left <= 0)
            break;
        count = fill(room, left < ROOM ? (size_t)left : ROOM);
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(sum, digest, NULL);
    for (int byte = 0; byte < 20; byte++)
        printf("%02x", digest[byte]);
    printf("\n");
    return 0;
}
