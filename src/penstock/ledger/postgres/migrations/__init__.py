"""The schema, as numbered files. A file that was released is never changed; the next change is the next file."""
