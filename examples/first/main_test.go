package main

func Example() {
	main()
	// Output:
	// customer-42: ordered
	// customer-42: paid
	// customer-42: shipped
}
