/*
 * One job's worker: a process that reads the payload on standard input and writes the result to
 * standard output. Its standard error goes nowhere. It has a process group of its own, which is
 * killed when the job is over, cancelled, beyond its time, or says more than its limit.
 *
 * 0: it ended with 0 and its result is whole. CE_REFUSED: it failed. -ETIMEDOUT, CE_TOO_LARGE,
 * -EBUSY, -ECANCELED. What it wrote is in job->result in any case. Threads: one per job.
 */
#ifndef CACHET_SERVER_JOB_RUN_H
#define CACHET_SERVER_JOB_RUN_H

#include "server/job.h"

int server_job_run(struct job *job) MUST_CHECK;

#endif
