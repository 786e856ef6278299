"""What two changes of one table that begin together may do to each other, as Databricks documents it.

The conflict matrix of row-level concurrency, isolation level WriteSerializable, the default of tables
(https://docs.databricks.com/aws/en/optimizations/isolation/row-level-concurrency):

- INSERT without a query of the same table conflicts with nothing;
- UPDATE, DELETE and MERGE conflict with each other "when modifying the same row": the one that commits later gets
  DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES, SQLSTATE 2D521 (error-messages/delta-concurrent-append-error-class);
- whatever touches other rows is committed. So two MERGEs that each insert one name both are.

A `Race` lets it happen: the next changes of a table, as many as *writers*, each run on a copy of what the table was
when the last of them arrived. What a change removed and added is the difference of its copy; it is then committed by the
rules above. Sail itself would refuse more, as it knows files only.
"""

import collections
import shutil
import threading
import uuid

#: Seconds that a change waits for the others; then it goes on alone.
PATIENCE = 20


class Race:
    def __init__(self, engine, root, schema, table, writers):
        self.engine, self.root, self.schema, self.table = engine, root, schema, table
        self.start = threading.Barrier(writers)
        self.mutex = threading.Lock()
        self.free = writers
        self.committed = 0
        self.removed = collections.Counter()

    def joins(self, statement):
        """Whether a change takes part."""
        with self.mutex:
            is_one = self.free > 0 and f"`{self.schema}`.`{self.table}`" in statement
            self.free -= is_one
        return is_one

    def run(self, statement, parameters, conflict):
        """Return what the engine returns, or raise what *conflict* makes of a sentence."""
        real = f"`{self.schema}`.`{self.table}`"
        copy = f"race_{uuid.uuid4().hex}"
        place = f"{self.root}/races/{copy}"
        shutil.copytree(f"{self.root}/tables/main/{self.schema}/{self.table}", place)
        self.engine.execute(f"CREATE TABLE {copy} USING DELTA LOCATION '{place}'")
        before = self.rows(copy)
        try:
            self.start.wait(PATIENCE)
        except threading.BrokenBarrierError:
            return self.engine.run(statement, parameters)
        result = self.engine.run(statement.replace(f"`main`.{real}", copy), parameters)
        after = self.rows(copy)
        removed, added = before - after, after - before
        with self.mutex:
            if removed & self.removed:
                raise conflict(
                    f"Transaction conflict detected. A concurrent operation added data to table {real}. "
                    "The concurrent operation modified the same rows that this transaction attempted to modify."
                )
            self.removed += removed
            self.apply(real, removed, added)
        return result

    def rows(self, table):
        found = self.engine.execute(f"SELECT * FROM {table}").to_pylist()
        return collections.Counter(tuple(row.items()) for row in found)

    def apply(self, real, removed, added):
        for row in removed:
            same = " AND ".join(f"{name} <=> {self.engine.literal(value)}" for name, value in row)
            self.engine.execute(f"DELETE FROM {real} WHERE {same}")
        rows = [
            ", ".join(self.engine.literal(value) for _, value in row) for row in added.elements()
        ]
        if rows:
            self.engine.execute(f"INSERT INTO {real} VALUES ({'), ('.join(rows)})")
