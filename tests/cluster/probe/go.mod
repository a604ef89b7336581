module murmur.dev/probe

go 1.24
