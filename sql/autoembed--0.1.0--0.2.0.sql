-- What 0.2.0 brings to a catalogue of 0.1.0. CONTRIBUTING.md says what such a script may do.
\echo Use "ALTER EXTENSION autoembed UPDATE TO '0.2.0'" to load this file. \quit
