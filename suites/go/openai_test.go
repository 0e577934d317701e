// Package suites holds OpenAI's client for Go against a server of ours.
package suites

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

const (
	model   = "demo"
	encoder = "encoder"
	sum     = "What is 17 plus 25?"
	answer  = "17 plus 25 is 42."
)

func client(variable string) openai.Client {
	return openai.NewClient(
		option.WithBaseURL(os.Getenv(variable)),
		option.WithAPIKey("none"),
		option.WithMaxRetries(0),
	)
}

func asked() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       model,
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.UserMessage(sum)},
		Temperature: openai.Float(0),
	}
}

func add() openai.ChatCompletionToolUnionParam {
	number := map[string]any{"type": "integer"}
	return openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name:        "add",
		Description: openai.String("Add two numbers."),
		Parameters: openai.FunctionParameters{
			"type":       "object",
			"properties": map[string]any{"a": number, "b": number},
			"required":   []string{"a", "b"},
		},
	})
}

func equal[T comparable](t *testing.T, found, expected T) {
	t.Helper()
	if found != expected {
		t.Fatalf("%v, expected %v", found, expected)
	}
}

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestModels(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	page, err := api.Models.List(context.Background())
	equal(t, must(t, page, err).Data[0].ID, model)
}

func TestChat(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	done, err := api.Chat.Completions.New(context.Background(), asked())
	equal(t, must(t, done, err).Choices[0].Message.Content, answer)
}

func TestStream(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	stream := api.Chat.Completions.NewStreaming(context.Background(), asked())
	whole := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		whole.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	equal(t, whole.Choices[0].Message.Content, answer)
}

func TestToolInTurn(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	request := asked()
	request.Tools = []openai.ChatCompletionToolUnionParam{add()}
	done, err := api.Chat.Completions.New(context.Background(), request)
	message := must(t, done, err).Choices[0].Message
	equal(t, len(message.ToolCalls), 1)
	arguments := map[string]int{}
	if err := json.Unmarshal([]byte(message.ToolCalls[0].Function.Arguments), &arguments); err != nil {
		t.Fatal(err)
	}
	equal(t, arguments["a"]+arguments["b"], 42)
	request.Messages = append(
		request.Messages, message.ToParam(), openai.ToolMessage("42", message.ToolCalls[0].ID),
	)
	told, err := api.Chat.Completions.New(context.Background(), request)
	equal(t, must(t, told, err).Choices[0].Message.Content, answer)
}

func TestSchema(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	request := asked()
	request.Messages = []openai.ChatCompletionMessageParamUnion{
		openai.UserMessage("Jason is 25 years old."),
	}
	request.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{
		OfJSONSchema: &openai.ResponseFormatJSONSchemaParam{
			JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
				Name:   "person",
				Strict: openai.Bool(true),
				Schema: map[string]any{
					"type": "object",
					"properties": map[string]any{
						"name": map[string]any{"type": "string"},
						"age":  map[string]any{"type": "integer"},
					},
					"required":             []string{"name", "age"},
					"additionalProperties": false,
				},
			},
		},
	}
	done, err := api.Chat.Completions.New(context.Background(), request)
	person := struct {
		Name string
		Age  int
	}{}
	text := must(t, done, err).Choices[0].Message.Content
	if err := json.Unmarshal([]byte(text), &person); err != nil {
		t.Fatal(err)
	}
	equal(t, person.Name != "", true)
}

func TestCompletion(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	done, err := api.Completions.New(context.Background(), openai.CompletionNewParams{
		Model:       model,
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String("17 plus 25 is")},
		MaxTokens:   openai.Int(8),
		Temperature: openai.Float(0),
	})
	equal(t, must(t, done, err).Choices[0].Text, " 42.")
}

func TestErrors(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	request := asked()
	request.Model = "nobody"
	_, err := api.Chat.Completions.New(context.Background(), request)
	var refused *openai.Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	equal(t, refused.StatusCode, 404)
	equal(t, refused.Code, "model_not_found")
}

func TestResponses(t *testing.T) {
	api := client("OCTAVO_SUITES_URL")
	request := responses.ResponseNewParams{
		Model:       model,
		Input:       responses.ResponseNewParamsInputUnion{OfString: openai.String(sum)},
		Temperature: openai.Float(0),
	}
	done, err := api.Responses.New(context.Background(), request)
	equal(t, must(t, done, err).OutputText(), answer)
	stream := api.Responses.NewStreaming(context.Background(), request)
	text, last := "", ""
	for stream.Next() {
		text += stream.Current().AsResponseOutputTextDelta().Delta
		last = stream.Current().Type
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	equal(t, text, answer)
	equal(t, last, "response.completed")
}

func TestEmbeddings(t *testing.T) {
	api := client("OCTAVO_SUITES_ENCODER_URL")
	done, err := api.Embeddings.New(context.Background(), openai.EmbeddingNewParams{
		Model: encoder,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a meal", "a pod"}},
	})
	found := must(t, done, err)
	equal(t, len(found.Data), 2)
	equal(t, len(found.Data[0].Embedding), 384)
}
