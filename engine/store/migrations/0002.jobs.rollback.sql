drop index events_job;
drop function job_facts;
drop function log_place;
drop table job_pauses, processing_queue, topic_logs;
