/*
 * Failpoints: named places where a test makes the product fail, or die.
 *
 * FAILPOINT("name") is 0 in ordinary builds and costs nothing. Built with -Dfailpoints=true it
 * looks at CACHET_FAILPOINTS, a comma-separated list of `name=action` or `*=action`, where action
 * is `N:CODE` (the Nth time it is reached, from 1, it returns -CODE, a positive errno number),
 * `N:kill` (the process dies there by SIGKILL) or `N:exit`. Every point that fired is written to
 * the file CACHET_FAILPOINTS_LOG, if set.
 *
 *     r = FAILPOINT("blob-fdatasync");
 *     if (!r) r = fdatasync(fd) < 0 ? -errno : 0;
 */
#ifndef CACHET_BASE_FAILPOINT_H
#define CACHET_BASE_FAILPOINT_H

#ifdef CACHET_FAILPOINTS
int failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) 0
#endif

#endif
