"""Yardstick (d): the usual receiver: FastAPI, a pydantic model, aiokafka's `send_and_wait` with acks=all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Callback(BaseModel):
    taskId: int | str  # noqa: N815  # Blu's name
    records: list[dict[str, Any]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.producer = AIOKafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all")
    await app.state.producer.start()
    yield
    await app.state.producer.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/callbacks/{token}")
async def receive(token: str, callback: Callback) -> dict[str, Any]:
    if token != os.environ["TOKEN"]:
        raise HTTPException(404)
    await app.state.producer.send_and_wait(os.environ["TOPIC"], callback.model_dump_json().encode())
    return {"code": 200, "message": "success"}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False, loop="uvloop"
    )
