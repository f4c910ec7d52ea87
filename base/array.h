/* Arrays that grow by doubling. */
#ifndef CACHET_BASE_ARRAY_H
#define CACHET_BASE_ARRAY_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Where `list`, `n` of whose *cap elements of `size` bytes are used, has room for one more: moved,
 * when it was full. NULL: no memory; it stands as it was. */
static inline void *array_room(void *list, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? 2 * *cap : 4;
	void *grown;

	if (n < *cap)
		return list;
	grown = reallocarray(list, more, size);
	if (grown)
		*cap = more;
	return grown;
}

/* Makes that room: 0, or -ENOMEM. Pointer and capacity are changed in place; the caller frees. */
#define ARRAY_ROOM(list, n, cap)                                                                   \
	({                                                                                         \
		__typeof__(list) room_ = array_room((list), (n), &(cap), sizeof(*(list)));         \
		if (room_)                                                                         \
			(list) = room_;                                                            \
		room_ ? 0 : -ENOMEM;                                                               \
	})

#endif
