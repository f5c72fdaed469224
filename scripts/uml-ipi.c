// SPDX-License-Identifier: GPL-2.0-only
/*
 * For User-mode Linux with more than one CPU: interrupts are disabled lazily.
 *
 * There an interrupt of another CPU is a signal, and the kernel has it blocked by the
 * host whenever it disables interrupts, which is for each counter of a CPU. That is two
 * system calls, and a lock of the host's that all threads share: CPUs would mostly wait
 * for that. Here a signal that has been sent meanwhile is what makes it be blocked, as
 * the kernel itself does with the other signals, and with interrupts of real hardware.
 *
 * scripts/uml has the dynamic linker put this before the C library.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

/* Whether this CPU is to get none; whether the host has them blocked. */
static __thread volatile sig_atomic_t disabled, blocked;

static int (*real_sigprocmask)(int how, const sigset_t *set, sigset_t *old);
static int (*real_sigaction)(int sig, const struct sigaction *new, struct sigaction *old);
static void (*kernel_handler)(int sig, siginfo_t *info, void *context);
static sigset_t ipi;

__attribute__((constructor))
static void find(void)
{
	real_sigprocmask = dlsym(RTLD_NEXT, "sigprocmask");
	real_sigaction = dlsym(RTLD_NEXT, "sigaction");
	sigemptyset(&ipi);
	sigaddset(&ipi, SIGRTMIN);
}

static void handle(int sig, siginfo_t *info, void *context)
{
	if (disabled) {
		/* From the return of this on; and it stays pending until then. */
		sigaddset(&((ucontext_t *)context)->uc_sigmask, sig);
		blocked = 1;
		pthread_sigqueue(pthread_self(), sig, info->si_value);
		return;
	}
	/* For as long as the handler runs, unless it enables them. */
	blocked = 1;
	kernel_handler(sig, info, context);
	blocked = 0;
}

int sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction ours;

	if (sig != SIGRTMIN || !new)
		return real_sigaction(sig, new, old);
	ours = *new;
	kernel_handler = new->sa_sigaction;
	ours.sa_sigaction = handle;
	return real_sigaction(sig, &ours, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	/* The kernel asks for all others together or alone, and never with this one. */
	if (set && set->__val[0] == ipi.__val[0] && !old) {
		if (how == SIG_BLOCK) {
			disabled = 1;
			return 0;
		}
		disabled = 0;
		if (!blocked)
			return 0;
		blocked = 0;
	} else if (how == SIG_BLOCK && disabled && !blocked) {
		/* Before it sleeps: it has to be woken by them. */
		blocked = 1;
		if (real_sigprocmask(SIG_BLOCK, &ipi, NULL))
			return -1;
	}
	return real_sigprocmask(how, set, old);
}
