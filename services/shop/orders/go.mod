module murmur.dev/shop/orders

go 1.25
