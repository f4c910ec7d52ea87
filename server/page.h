/* The administration page and its Content-Security-Policy. Made from data/admin.html when building.
 */
#ifndef CACHET_SERVER_PAGE_H
#define CACHET_SERVER_PAGE_H

extern const char server_page_html[], server_page_policy[];

#endif
