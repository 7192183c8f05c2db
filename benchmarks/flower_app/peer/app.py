"""Federated averaging of one array by clients without work: what is left is Flower's own time."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Add one to the array."""
    arrays = [each + 1 for each in message.content["arrays"].to_numpy_ndarrays()]
    told = MetricRecord({"num-examples": 10})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": told}), reply_to=message)


class Timed(FedAvg):
    """FedAvg that writes down when each round's sum is there."""

    place: Path

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found = super().aggregate_train(server_round, replies)
        with self.place.open("a") as out:
            out.write(f"{time.time()}\n")
        return found


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All hospitals in every round."""
    told = context.run_config
    hospitals = int(told["hospitals"])
    strategy = Timed(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=hospitals,
        min_available_nodes=hospitals,
    )
    strategy.place = Path(str(told["times"]))
    start = ArrayRecord([np.zeros(int(told["words"]), np.float32)])
    strategy.start(grid=grid, initial_arrays=start, num_rounds=int(told["rounds"]))
