/*
 * Ruin: the ways in which a plugin can ruin the process it runs in.
 *
 *   abort       calls abort
 *   null        writes to address zero
 *   leak        allocates memory for ever and does not check the result
 *   loop        computes for ever
 *   hang        blocks every signal and waits for ever
 *   exit        calls exit
 *   overflow    overflows the stack by recursion
 *   close       closes every descriptor and continues
 *   fork        forks a process that never ends, and aborts
 *   session     like fork, but the forked process has its own session
 *   stop        stops the process with SIGSTOP
 *   forge       reports forged statistics to the host, and exits
 *   trap        executes an illegal instruction
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ruin_by_depth(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return depth < 0 ? 0 : ruin_by_depth(depth + 1) + room[0];
}

static void ruin_wait(void) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;) pause();
}

static void ruin(const char *way) {
    static volatile int *volatile nowhere = NULL;
    static volatile long turns;
    if (strcmp(way, "abort") == 0) {
        abort();
    } else if (strcmp(way, "null") == 0) {
        *nowhere = 1;
    } else if (strcmp(way, "leak") == 0) {
        for (;;) *(volatile char *)malloc(1 << 20) = 1;
    } else if (strcmp(way, "loop") == 0) {
        for (;;) turns++;
    } else if (strcmp(way, "hang") == 0) {
        ruin_wait();
    } else if (strcmp(way, "exit") == 0) {
        exit(3);
    } else if (strcmp(way, "overflow") == 0) {
        turns = ruin_by_depth(0);
    } else if (strcmp(way, "close") == 0) {
        syscall(SYS_close_range, 0u, ~0u, 0u);
    } else if (strcmp(way, "fork") == 0 || strcmp(way, "session") == 0) {
        if (fork() != 0) abort();
        if (strcmp(way, "session") == 0) setsid();
        ruin_wait();
    } else if (strcmp(way, "stop") == 0) {
        kill(getpid(), SIGSTOP);
        /* Another thread may take the signal, and this one runs on until it does. */
        ruin_wait();
    } else if (strcmp(way, "forge") == 0) {
        /* A worker reports to its host on descriptor 4. */
        static const char much[] =
            "{\"statistics\":{\"_0\":{\"openCalls\":9223372036854775807,\"openSources\":-9223372036854775808,"
            "\"calls\":9223372036854775807,\"sources\":9223372036854775807,\"frames\":9223372036854775807,"
            "\"bytes\":-1,\"polls\":9223372036854775807,\"emptyPolls\":9223372036854775807,"
            "\"overstays\":9223372036854775807}}}\n";
        if (write(4, much, sizeof much - 1) < 0) abort();
        _exit(3);
    } else if (strcmp(way, "trap") == 0) {
        __builtin_trap();
    }
}
