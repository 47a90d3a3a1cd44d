CREATE TABLE "messages" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	"customer" text NOT NULL,
	"content" text NOT NULL
);
--> statement-breakpoint
SELECT autoembed.enable('messages', 'content');
