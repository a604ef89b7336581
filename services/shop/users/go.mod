module murmur.dev/shop/users

go 1.25
