module murmur.dev/shop/products

go 1.25
