"""A made-up history of two installations, delivered in tarballs as a real one is: with changes and repeats.

`History.deliveries` holds what was packed, row by row, so that a test can compute from it by other means
what a report has to show. A row is delivered with each day on which it was modified; some rows are
committed late and come with a second tarball of their day, some tarballs are delivered again in another
package, one day of one installation is missing, and the tarballs are read in any order.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import pathlib
import random

from ops.metrics_collect import Package, collector

START = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
DAYS = 4
HOSTS = 9
ORGANIZATIONS = ["North", "South", "=Ost", ""]
INSTALLS = ["11111111-aaaa", "22222222-bbbb"]


class History:
    """Rows by collection, each with `__install` and `__slice` (the end of its day), and their tarballs."""

    def __init__(self, seed: int, folder: pathlib.Path) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.folder = folder
        self.deliveries: dict[str, list[dict[str, object]]] = {}
        self.files: list[pathlib.Path] = []
        self.missing = (INSTALLS[1], self.random.randrange(DAYS))
        for install in INSTALLS:
            self._installation(install)
        self.random.shuffle(self.files)

    def _installation(self, install: str) -> None:
        summaries = {}
        events = []
        for day in range(DAYS):
            for number in range(self.random.randrange(4, 12)):
                row = self._summary(f"{day}{number}", day)
                summaries[row["id"]] = row
                events += [self._event(f"{row['id']}{n}", row, day) for n in range(3)]
            changed = [
                self._changed(row, day)
                for row in self.random.sample(list(summaries.values()), 3)
                if day_of(row["modified"]) < day
            ]
            summaries |= {row["id"]: row for row in changed}
            if (install, day) == self.missing:
                continue
            fresh = [row for row in summaries.values() if day_of(row["modified"]) == day]
            late = fresh[: len(fresh) // 4]
            new = [row for row in events if day_of(row["created"]) == day]
            for part, rows in enumerate((fresh[len(late) :], late)):
                self._ship(install, day, f"s{part}", job_host_summary=rows)
            self._ship(
                install,
                day,
                "rest",
                main_jobevent=new,
                main_indirectmanagednodeaudit=[self._indirect(f"{day}", day)],
                main_host=self._inventory(day),
                main_hostmetric=self._metrics(day),
            )
            if self.random.random() < 0.5:  # again, in one package
                self._ship(install, day, "again", main_jobevent=new, job_host_summary=fresh)

    def _summary(self, id_: str, day: int) -> dict[str, object]:
        created = self._time(day)
        host = self.random.randrange(HOSTS)
        job = self.random.randrange(4)
        return {
            "id": id_,
            "created": created,
            "modified": max(created, self._time(day)),
            "host_name": f"host-{host}",
            "ansible_host_variable": f"10.0.0.{host}" if host % 3 == 0 else "",
            "organization_name": ORGANIZATIONS[job],
            "job_template_name": f"Template {job}",
            "job_remote_id": f"{day}{job}",
            "job_created": (START + dt.timedelta(days=day, minutes=job)).isoformat(),
            **{
                name: str(self.random.choice([0, 0, 1, 5]))
                for name in ("dark", "failures", "ok", "skipped", "ignored", "rescued")
            },
        }

    def _changed(self, row: dict[str, object], day: int) -> dict[str, object]:
        """The same row later: the host ran again, or was found unreachable after all."""
        counts = {"ok": "0", "failures": "0", "skipped": "0", "ignored": "0", "rescued": "0"}
        change = self.random.choice([{"ok": "7"}, counts, {"organization_name": "South"}])
        return {**row, **change, "modified": self._time(day)}

    def _event(self, id_: str, row: dict[str, object], day: int) -> dict[str, object]:
        kind = self.random.randrange(4)
        return {
            "id": id_,
            "created": self._time(day),
            "host_name": row["host_name"],
            "job_remote_id": row["job_remote_id"],
            "task_action": "yum",
            "resolved_action": ["ansible.builtin.copy", "a.b.c", "", "ping"][kind],
            "resolved_role": ["", "acme.web.nginx"][kind % 2],
            "role": "nginx" if kind == 2 else "",
            "duration": str(self.random.randrange(1, 9) / 4),
        }

    def _indirect(self, id_: str, day: int) -> dict[str, object]:
        return {
            "id": id_,
            "created": self._time(day),
            "host_name": f"vm-{self.random.randrange(3)}",
            "organization_name": "North",
            "job_template_name": "Clouds",
            "job_remote_id": f"9{day}",
            "job_created": (START + dt.timedelta(days=day)).isoformat(),
            "task_runs": "2",
            "facts": json.dumps({"infra_type": "Public Cloud", "device_type": "VM"}),
        }

    def _inventory(self, day: int) -> list[dict[str, object]]:
        """Hosts 1 and 2 are one machine, and so are 4 and 5, by the address of 3 that both have had."""
        machines = {1: "a", 2: "a", 4: "b", 5: "b"}
        return [
            {
                "host_id": str(host),
                "host_name": f"host-{host}",
                "ansible_host_variable": f"10.0.0.{host}" if host % 3 == 0 else "",
                "organization_name": self.random.choice(["North", "South"]),
                "inventory_name": f"Inventory {host % 2}",
                "last_automation": self._time(day) if host % 4 else "",
                "canonical_facts": json.dumps(
                    {
                        "ansible_product_serial": f"serial-{machines.get(host, host)}",
                        "ansible_machine_id": f"machine-{machines.get(host, host)}",
                    }
                ),
            }
            for host in range(HOSTS)
        ]

    def _metrics(self, day: int) -> list[dict[str, object]]:
        rows = []
        for host in range(HOSTS):
            age = [400, 200, 90, 3][host % 4]
            last = START + dt.timedelta(days=day - [0, 180, 89, 0][host % 4])
            gone = host % 5 == 4 and day > 2
            rows.append(
                {
                    "hostname": f"host-{host}",
                    "first_automation": (START - dt.timedelta(days=age)).isoformat(),
                    "last_automation": last.isoformat(),
                    "last_deleted": (last + dt.timedelta(hours=1)).isoformat() if gone else "",
                    "automated_counter": str(host + day),
                    "deleted_counter": str(int(gone)),
                    "deleted": "t" if gone else "f",
                }
            )
        return rows

    def _time(self, day: int) -> str:
        return (START + dt.timedelta(days=day, seconds=self.random.randrange(86_400))).isoformat()

    def _ship(self, install: str, day: int, name: str, **collections: list) -> None:
        since, until = (START + dt.timedelta(days=day + n) for n in (0, 1))
        work = []
        for collection, rows in collections.items():
            added = [{**row, "__install": install, "__slice": day} for row in rows]
            self.deliveries.setdefault(collection, []).extend(added)
            if rows:
                work.append(_collector_of(collection)(rows=rows, since=since, until=until))
        if work:
            form = f"{install}-{day}-{name}-{{index}}.tar.gz"
            package = Package(
                work,
                {"install_uuid": install},
                tarball_format=form,
                directory=self.folder,
                keep=True,
            )
            self.files += list(package)


def day_of(time: object) -> int:
    return (dt.datetime.fromisoformat(str(time)) - START).days


def _collector_of(collection: str):
    @collector(key=collection, primary_key="id" if collection not in _SNAPSHOTS else None)
    def rows_of_a_day(*, rows, since, until, output_dir=None):
        path = pathlib.Path(output_dir, f"{collection}.csv")
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return [path]

    return rows_of_a_day


_SNAPSHOTS = {"main_host", "main_hostmetric"}
