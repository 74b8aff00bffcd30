/* Its constructor starts a program that goes its own ways, and tells its number in a file: compile with -DSTRAY="path". */
#include <stdio.h>
#include <unistd.h>
static __attribute__((constructor)) void leave(void) {
    if (fork() != 0) return;
    setsid();
    FILE *file = fopen(STRAY, "a");
    if (file == NULL) _exit(1);
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
    sleep(60);
    _exit(0);
}
#include "conforming.c"
