/* Starts a process in its constructor that outlives the host. Writes its ID to a file: compile with -DSTRAY="path". */
#include <stdio.h>
#include <unistd.h>
static __attribute__((constructor)) void leave(void) {
    int ends[2];
    char byte;
    if (pipe(ends) != 0) return;
    if (fork() != 0) {
        /* Waits until the child has its own session. In this process group it would be killed with the group. */
        close(ends[1]);
        if (read(ends[0], &byte, 1) < 0) perror("read");
        close(ends[0]);
        return;
    }
    setsid();
    FILE *file = fopen(STRAY, "a");
    if (file == NULL) _exit(1);
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
    close(ends[1]);
    sleep(60);
    _exit(0);
}
#include "conforming.c"
