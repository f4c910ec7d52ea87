/* The page of `cachet export --html`: what stands before and behind the sealed bytes in base64.
 * Made from data/viewer.html when building. */
#ifndef CACHET_CLI_VIEWER_PAGE_H
#define CACHET_CLI_VIEWER_PAGE_H

extern const char viewer_page_head[], viewer_page_tail[];

#endif
