CREATE TABLE IF NOT EXISTS public.murmur_outbox (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL DEFAULT gen_random_uuid()::text,
  type text NOT NULL,
  source text,
  subject text,
  partitionkey text,
  data text,
  data_base64 text,
  datacontenttype text DEFAULT 'application/json',
  time timestamptz NOT NULL DEFAULT clock_timestamp(),
  extensions text,
  traceparent text
);
CREATE TABLE IF NOT EXISTS public.murmur_outbox_refused (
  position bigint NOT NULL,
  id text, type text, source text, subject text, partitionkey text, data text, data_base64 text,
  datacontenttype text, time timestamptz, extensions text, traceparent text,
  cause text NOT NULL,
  refused timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS public.murmur_outbox_relay (
  one integer PRIMARY KEY CHECK (one = 1),
  stream text,
  sequence bigint NOT NULL DEFAULT 0
);
INSERT INTO public.murmur_outbox_relay (one) VALUES (1) ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION public.murmur_outbox_wake() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_catalog.pg_notify('murmur_outbox', ''); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER murmur_outbox_wake AFTER INSERT ON public.murmur_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION public.murmur_outbox_wake();
