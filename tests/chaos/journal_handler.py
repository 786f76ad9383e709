"""The handler of the chaos runs: it writes down each execution before it answers, and takes its time."""

import os
import random
import time

from penstock import Handler, current_run


class Journal(Handler):
    """Answers with who it is; every execution stands in a journal that survives a kill."""

    def load(self):
        """Open the journal; appends of one short line are atomic."""
        self.journal = os.open(os.environ["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def predict(self, batch):
        """Note the execution, work a little, answer with the input and the epoch."""
        answers = []
        for item in batch:
            run = current_run()
            os.write(self.journal, f"{run.run_id} {run.epoch}\n".encode())
            time.sleep(random.uniform(0.001, 0.02))
            answers.append({"n": item["n"], "epoch": run.epoch, "run_id": run.run_id})
        return answers
