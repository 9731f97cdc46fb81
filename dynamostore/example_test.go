package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// A program brings its client; the table is asked at the first acquire.
func ExampleNew() {
	ctx := context.Background()
	cfg := aws.Config{Region: "eu-central-1"} // in a program: config.LoadDefaultConfig(ctx)
	table, err := dynamostore.TableName("my-app")
	if err != nil {
		log.Fatal(err)
	}
	store, err := dynamostore.New(dynamostore.NewClient(cfg), table, &dynamostore.Config{Namespace: "team-a"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)
	limiter, err := zael.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer limiter.Close(ctx)
	fmt.Println(table)
	// Output: ZAEL-my-app
}

// What is wrong with a name is said before anything is asked of the table.
func ExampleTableName() {
	_, err := dynamostore.TableName("my_app")
	_, invalid := errors.AsType[*zael.ValidationError](err)
	fmt.Println(invalid)
	// Output: true
}
