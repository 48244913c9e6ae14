/* Moves CLOCK_REALTIME by as many milliseconds as a file says: LD_PRELOAD this, CLOCK_FILE=path. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long moved_ns(void) {
    static int file = -2;
    char text[24] = {0};
    if (file == -2) {
        const char *path = getenv("CLOCK_FILE");
        file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
    if (file < 0 || pread(file, text, sizeof text - 1, 0) <= 0) return 0;
    return atoll(text) * 1000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (result == 0 && clock == CLOCK_REALTIME) {
        long long ns = at->tv_sec * 1000000000LL + at->tv_nsec + moved_ns();
        at->tv_sec = ns / 1000000000LL;
        at->tv_nsec = ns % 1000000000LL;
    }
    return result;
}
