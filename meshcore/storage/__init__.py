"""The catalogue of a node: kept on disk, and searched in memory.

`catalogue`  `CatalogueStore`, all that the node calls; its threads
`changes`    what is handed in, what comes back from disk, what a search asks
`disk`       the SQLite file: opened, checked, read, written
`writing`    the thread that writes it, and what waits for it
`table`      the read side: every record in memory, column by column
`columns`    the columns by name, and the order that `by` asks for
`query`      the query language: a text becomes a tree
`matching`   a tree becomes the set of records that it holds for
`ordering`   one page of that set in any order; `items` tells its records

Nothing of this is loaded before a node has a catalogue: SQLite and the parser cost more than a
short command takes.
"""
