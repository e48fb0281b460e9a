"""Every metric of ours, by name: a closed set. Add it here first, with what it means and its unit.

Names end in their unit, counters in `_total` (prometheus_client adds that by itself, so it is left out here).
No label ever holds an id, an error's text or anything else without a bound.
"""

from __future__ import annotations

# -- receiver: the way in --------------------------------------------------------------------------------------------
RECEIVED = "dial_results_receiver_callbacks_received"  # with a good token, whatever came of it; labels: merchant
ACKNOWLEDGED = "dial_results_receiver_callbacks_acknowledged"  # answered 200, so stored; labels: merchant
REFUSED = "dial_results_receiver_callbacks_refused"  # with a good token, not answered 200; labels: cause
NOT_FOUND = "dial_results_receiver_not_found"  # the uniform 404: wrong token, path or method
TURNED_AWAY = (
    "dial_results_receiver_turned_away"  # of these: a good token, but not the header or address; labels: cause
)
BAD_REQUESTS = "dial_results_receiver_bad_requests"  # not HTTP as we accept it; answered 400 by the server
ACK_WAITS_OVER = (
    "dial_results_receiver_broker_ack_waits_over"  # answered 200 before the broker had it, though it waited
)
ACKNOWLEDGE_SECONDS = "dial_results_receiver_acknowledge_seconds"  # histogram: request read to answer written
CONNECTIONS = "dial_results_receiver_open_connections"  # at the callbacks' port
CROWDED_OUT = "dial_results_receiver_connections_crowded_out"  # closed for newer ones before they brought a callback
STALL_SECONDS = "dial_results_receiver_largest_stall_seconds"  # of the event loop, within the last 15 to 30 s
STALL_BUSY_SECONDS = "dial_results_receiver_largest_busy_stall_seconds"  # the same, only what it computed itself
WORKERS_RUNNING = (
    "dial_results_supervisor_workers_running"  # of `--workers`; with several all others have a label worker
)
WORKER_RESTARTS = "dial_results_supervisor_worker_restarts"  # processes that ended by themselves; labels: worker
LEFT_WAITING = "dial_results_receiver_left_journals_waiting_callbacks"  # in journals of workers that there are no more
REPEATS = "dial_results_receiver_repeats"  # results whose event id was seen before: 200s that Blu did not see
TOKEN_LAST_SEEN = "dial_results_receiver_token_last_seen_timestamp_seconds"  # labels: merchant, token (its id)
MERCHANTS_FILE_OK = "dial_results_receiver_merchants_file_ok"  # 1, or 0 while the file is broken and the old one holds
TLS_FILES_OK = "dial_results_receiver_tls_files_ok"  # 1, or 0 while they are broken and the old certificate holds
TLS_EXPIRES = "dial_results_receiver_tls_expires_timestamp_seconds"  # end of the certificate in use
SECONDS_TO_LOSS = "dial_results_receiver_first_possible_loss_seconds"  # until Blu gives up; -1 while nothing is refused
POSSIBLY_LOST = "dial_results_receiver_possibly_lost_stretches"  # stretches of refusals longer than Blu's retries

# -- receiver: the journal ---------------------------------------------------------------------------------------------
JOURNALED = "dial_results_receiver_journal_callbacks"  # appended and on disk
JOURNAL_WAITING = "dial_results_receiver_journal_waiting_callbacks"  # on disk, not yet acknowledged by Kafka
JOURNAL_BYTES = "dial_results_receiver_journal_bytes"  # on disk, published ones that are kept as insurance included
JOURNAL_QUOTA_BYTES = "dial_results_receiver_journal_quota_bytes"
JOURNAL_RECOVERED = "dial_results_receiver_journal_recovered_callbacks"  # that waited at the start, left journals too
JOURNAL_DAMAGED = "dial_results_receiver_journal_damaged_callbacks"  # known to be missing; their bytes are set aside

# -- receiver: the publisher -------------------------------------------------------------------------------------------
PUBLISHED = "dial_results_receiver_results_published"  # acknowledged by all replicas; labels: merchant
DECODED = "dial_results_receiver_callbacks_decoded"  # one result of it at least is published
QUARANTINED = "dial_results_receiver_callbacks_quarantined"  # no result of it is published; labels: reason (its first)
EMPTY = "dial_results_receiver_callbacks_empty"  # callbacks without a single record
QUARANTINE_RECORDS = "dial_results_receiver_quarantine_records"  # bodies, and the bad ones of many; labels: reason
RESTAMPED = "dial_results_receiver_records_restamped"  # Kafka refused their time: a clock is an hour ahead or more
PUBLISH_FAILURES = "dial_results_receiver_publish_failures"  # windows that have to be sent again
KAFKA_UP = "dial_results_receiver_kafka_up"  # 1 while the last window was acknowledged
LAST_PUBLISHED = "dial_results_receiver_last_published_timestamp_seconds"

# -- consumers; all have the label consumer ----------------------------------------------------------------------------
EVENTS_DONE = "dial_results_consumer_events_done"  # durable in the sink and committed
DEAD_LETTERS = "dial_results_consumer_dead_letters"  # labels: consumer, reason
LAG = "dial_results_consumer_lag_events"  # behind the end of its live partitions
REPLAY_LAG = "dial_results_consumer_replay_lag_events"
SINK_AVAILABLE = "dial_results_consumer_sink_available"  # 0 while it waits for its sink
WRITE_SECONDS = "dial_results_consumer_write_seconds"  # histogram: one call of the sink
LAST_COMMIT = "dial_results_consumer_last_commit_timestamp_seconds"
SUPPRESSED = "dial_results_consumer_events_suppressed"  # left out, since their contact was erased
EXPIRED = "dial_results_consumer_records_expired"  # by retention, before they were done: lost for this sink
LEFT_TO_LIVE = "dial_results_consumer_replays_left_to_live"  # passed over: their live record was still to come
ERASURES_OWED = "dial_results_consumer_erasures_owed"  # heard of, and not yet done with a receipt by this process

# -- the crm consumer's own --------------------------------------------------------------------------------------------
CRM_CALLS = "dial_results_consumer_crm_calls"  # labels: consumer, answer (2xx 3xx 4xx 5xx none)
CRM_BREAKER_OPEN = "dial_results_consumer_crm_breaker_open"  # 1 while calls are held back since the CRM only fails
CRM_UNAUTHORISED = "dial_results_consumer_crm_unauthorised"  # 1 while the CRM refuses our token: alarm on it
CRM_GAVE_UP = "dial_results_consumer_crm_gave_up"  # dead-lettered after CRM_GIVE_UP_S of "try again"
