"""The chaos kit: numbered events are sent while faults strike, and at the end each is there exactly once.

`python -m tests.chaos --help`; docs/chaos.md says what it does and what it found. Where to look:

    __main__.py   the command line          run.py       one run: load, faults, end, audit
    scene.py      all that a fault may      faults/      one small file or line for each fault
                  lay hands on              schedule.py  seed -> which faults, in which order, when
    senders.py    forward with ack          tailed.py    files that grow and are rotated
    proxy.py      in front of Elasticsearch daemon.py    the daemon, with a clock that can be set
    book.py       what was sent             audit.py     what became of it      report.py  the figures
    taken.py      who took which chunk
"""
