"""A load among other loads: its books, its turn, its end. Its rooms know of no files of rows."""
