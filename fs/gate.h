/*
 * The gate before all operations: what is let through while the volume is being locked, and is.
 *
 *              fs_lock_begin              fs_lock                 fs_unlock
 *     OPEN ────────────────▶ LOCKING ──────────────▶ LOCKED ─────────────────▶ OPEN
 *
 *                        OPEN   LOCKING   LOCKED
 *     GATE_PROGRAM       yes    EACCES    EACCES   what programs ask for
 *     GATE_KERNEL        yes    yes       EACCES   dirty pages on their way here
 *     GATE_END           yes    yes       yes      flush, fsync, release, forget: nothing is left
 * to do in LOCKED
 *
 * Who is inside holds the lock shared, so that volume and sync are not replaced under it; who waits
 * for the network there is let go first. In LOCKED a flush or fsync is answered with success:
 * everything was committed and synced before.
 *
 * Dirty pages are those of shared mappings; a program's write(2) is refused. A touched mapping has
 * to be read again, which is SIGBUS.
 */
#ifndef CACHET_FS_GATE_H
#define CACHET_FS_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct fuse_lowlevel_ops;

enum gate_state { GATE_OPEN, GATE_LOCKING, GATE_LOCKED };
enum gate_class { GATE_PROGRAM, GATE_KERNEL, GATE_END };

struct gate {
	_Atomic int state; /* enum gate_state */
	pthread_rwlock_t lock;
	atomic_llong used_ms; /* boot time of the last GATE_PROGRAM */
};

void gate_init(struct gate *g);
void gate_done(struct gate *g);
bool gate_enter(struct gate *g, enum gate_class class);
void gate_leave(struct gate *g);

/* Puts the gate before each operation of the table. */
void gate_fill(struct fuse_lowlevel_ops *ops);

#endif
