/*
 * An open file as the kernel's file handle sees it: the reference to the struct file, with "may
 * write" in the lowest bit of the number. Nothing else belongs to a handle: writes are the file's
 * (for the pages of a mapping the kernel uses any handle of the inode).
 */
#ifndef CACHET_FS_HANDLE_H
#define CACHET_FS_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

#include <fuse_lowlevel.h>

#include "cache/file.h"

#define HANDLE_WRITER UINT64_C(1)

static inline uint64_t handle_make(struct file *file, bool writer)
{
	return (uintptr_t)file | (writer ? HANDLE_WRITER : 0);
}

static inline struct file *handle_file(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)(fi->fh & ~HANDLE_WRITER);
}

static inline bool handle_writes(const struct fuse_file_info *fi)
{
	return fi->fh & HANDLE_WRITER;
}

#endif
